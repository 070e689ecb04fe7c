from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from voslab.cli.instantiate import instantiate
from voslab.core import ConfigError, DataError

SETTINGS = "voslab.engine.Settings"


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "subprocess.run", "builtins.eval", "shutil.rmtree", "yaml.load", "hydra.utils.get_method"),
        *(
            "torch.load",
            "torch.hub.load",
            "torch.jit.load",
            "torch.utils.cpp_extension.load",
            "torch.serialization.load",
        ),
        *("voslab.reporting.provenance.subprocess.run", "voslab.core.archive.torch.load", "voslab.cli.train.main"),
        *(
            "voslab.data.sources.stills.Path.unlink",
            "voslab.core.strict_json.json.loads",
            "voslab.training.loggers.os.system",
        ),
        *("voslab.training.resume.shutil.rmtree", "voslab.data.sources.davis.image_files"),
        *("torch.optim.optimizer.functools.partial", "torch.optim.optimizer.torch.hub.load"),
        *("lightning.pytorch.loggers.wandb.os.system", "lightning.pytorch.trainer.trainer.torch.load"),
        *("lightning.pytorch.seed_everything", "albumentations.core.serialization.load"),
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_only_allowed_targets_are_instantiated(target: str, partial: bool) -> None:
    with pytest.raises(ConfigError, match=f"_target_ '{target}' is not allowed"):
        instantiate({"nested": [{"_target_": target, "_partial_": partial}]})


@pytest.mark.parametrize("target", [5, None, ["os.system"], {}, ""])
def test_a_target_is_a_name(target: object) -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        instantiate({"_target_": target})


def test_allowed_targets_are_built_with_plain_values() -> None:
    assert instantiate({"_target_": SETTINGS, "size": 100}).size == 100
    with pytest.raises(ConfigError, match=r"engine\.size=0"):
        instantiate({"_target_": SETTINGS, "size": 0})
    optimizer = instantiate({"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1, "betas": [0.9, 0.99]})
    assert optimizer.keywords["betas"] == [0.9, 0.99]


@pytest.mark.parametrize("partial", [False, True])
def test_an_unknown_parameter_is_reported_with_the_nearest_name(partial: bool) -> None:
    config = OmegaConf.create(
        {"data": {"train": {"_target_": "voslab.data.sources.davis.davis", "_partial_": partial, "yeer": 1}}}
    )
    with pytest.raises(
        ConfigError, match=r"^data\.train\.yeer: davis takes no 'yeer'; did you mean 'year'\? \(it takes"
    ):
        instantiate(config.data)


@pytest.mark.parametrize("hidden", ["_args_", "_recursive_", "_convert_"])
def test_hydra_keys_are_refused_as_parameters(hidden: str) -> None:
    with pytest.raises(ConfigError, match=f"takes no '{hidden}'"):
        instantiate({"_target_": SETTINGS, hidden: False})


@pytest.mark.parametrize(
    ("target", "parameters", "message"),
    [
        (SETTINGS, {"size": "abc"}, r"^size=abc: must be a whole number or null"),
        (SETTINGS, {"size": 2.5}, r"^size=2\.5: must be a whole number"),
        (SETTINGS, {"size": True}, r"^size=True: must be a whole number"),
        (SETTINGS, {"precision": "fp8"}, r"^precision=fp8: must be one of fp32, bf16, fp16"),
        ("torch.optim.Adam", {"lr": "fast", "_partial_": True}, r"^lr=fast: must be a number"),
        ("voslab.data.clips.augmentation.Augmentation", {"size": [64]}, r"^size=\[64\]: must be a list of 2"),
        ("voslab.data.clips.augmentation.Augmentation", {"size": "abc"}, r"^size=abc: must be"),
        ("voslab.data.datamodule.VOSDataModule", {"clip": 5}, r"^clip=5: must be ClipSettings or null"),
        ("voslab.data.datamodule.VOSDataModule", {"train": 5}, r"^train=5: must be"),
        ("voslab.data.datamodule.VOSDataModule", {"val": [1]}, r"^val=\[1\]: must be"),
        ("lightning.Trainer", {"max_steps": "abc"}, r"^max_steps=abc: must be a whole number"),
    ],
)
def test_a_value_of_another_type_is_refused(target: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        instantiate({"_target_": target, **parameters})
    assert "\n" not in str(error.value)


def test_errors_of_targets_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^cannot build lightning\.Trainer: .*devices=0") as error:
        instantiate({"_target_": "lightning.Trainer", "accelerator": "cpu", "devices": 0})
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"there is no voslab\.data\.sources\.davis\.daviz; did you mean 'davis'"):
        instantiate({"_target_": "voslab.data.sources.davis.daviz"})


def test_an_error_of_ours_passes_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        instantiate({"_target_": "voslab.data.sources.davis.davis", "root": str(tmp_path / "none")})
