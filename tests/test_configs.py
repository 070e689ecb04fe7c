"""Tests that every configuration composes and builds."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import lightning as L
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from voslab.cli.entry import plain
from voslab.cli.instantiate import instantiate
from voslab.cli.jobs import register_names
from voslab.core import ConfigError, Segmenter
from voslab.data.datamodule import VOSDataModule
from voslab.methods import registry
from voslab.training.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def composed(program: str, *overrides: str) -> DictConfig:
    register_names()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(program, [*overrides])


def test_every_method_has_a_model_config_and_every_model_config_builds() -> None:
    found = set()
    for name in names("model"):
        config = composed("train", f"model={name}").model
        assert isinstance(registry.build(config.name, plain(config.network)), Segmenter)
        found.add(config.name)
        if registry.method(config.name).module() is not None:
            assert isinstance(instantiate(config.training), Recipe)
    assert found == set(registry.names())


@pytest.mark.parametrize("name", names("experiment"))
def test_experiments_compose_and_set_their_name(name: str) -> None:
    config = composed("train", f"experiment={name}", "paths.output=/tmp/none")
    assert config.name == name
    assert isinstance(instantiate(config.model.training), Recipe)
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("group", ["trainer", "data", "logger", "debug", "callbacks"])
def test_every_alternative_composes(group: str) -> None:
    for name in names(group):
        config = composed("train", f"{group}={name}", "paths.output=/tmp/none")
        resolved = OmegaConf.to_container(config, resolve=True)
        assert isinstance(resolved, dict)
        assert resolved["trainer"]["_target_"] == "lightning.Trainer"


@pytest.mark.parametrize("name", names("callbacks"))
def test_every_callback_builds_and_adds_to_the_usual_ones(name: str) -> None:
    usual, chosen = (composed("train", f"callbacks={one}", "paths.output=/tmp/none") for one in ("default", name))
    built = {key: instantiate(callback) for key, callback in chosen.callbacks.items()}
    assert all(isinstance(callback, L.Callback) for callback in built.values())
    if name != "checkpoint":
        assert list(built)[: len(usual.callbacks)] == list(usual.callbacks)
        assert (len(built) > len(usual.callbacks)) == (name != "default")


def test_several_sets_of_callbacks_combine() -> None:
    config = composed("train", "callbacks=[ema,early_stopping]")
    assert {"best", "last", "average", "early_stopping"} <= set(config.callbacks)


@pytest.mark.parametrize(("logger", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_a_logger_without_its_package_is_one_line(logger: str, package: str) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    config = composed("train", f"logger={logger}", "paths.output=/tmp/none")
    with pytest.raises(ConfigError, match=rf"^cannot build lightning.*{package}.*pip install") as raised:
        instantiate(config.logger[logger])
    assert "\n" not in str(raised.value)


def test_every_trainer_disables_inference_mode_and_distributed_samplers() -> None:
    for name in names("trainer"):
        config = composed("train", f"trainer={name}")
        assert config.trainer.inference_mode is False
        assert config.trainer.use_distributed_sampler is False


@pytest.mark.parametrize("name", ["gpu", "ddp", "slurm"])
def test_gpus_train_in_bf16_and_are_fed_by_all_cores(name: str) -> None:
    config = composed("train", "experiment=gam_davis", f"trainer={name}", "paths.output=/tmp/none")
    assert (config.trainer.accelerator, config.trainer.precision) == ("gpu", "bf16-mixed")
    assert config.float32_matmul_precision == "high"
    data = instantiate(config.data)
    assert (data.num_workers, data.pin_memory, data.persistent_workers) == (None, True, True)
    assert config.trainer.reload_dataloaders_every_n_epochs == 0, "the loader, and its workers, are kept"
    chosen = composed(
        "train", "experiment=gam_davis", f"trainer={name}", "data.num_workers=3", "trainer.precision=32-true"
    )
    assert (chosen.data.num_workers, chosen.trainer.precision) == (3, "32-true")
    for data_set in names("data"):
        assert isinstance(instantiate(composed("evaluate", f"data={data_set}", f"trainer={name}").data), VOSDataModule)


def test_configs_are_short() -> None:
    for path in CONF.rglob("*.yaml"):
        assert len(path.read_text().splitlines()) <= 45, path


@pytest.mark.parametrize("places", ["README.md src", pytest.param("experiments", marks=pytest.mark.slow)])
def test_every_command_in_the_documents_composes(places: str) -> None:
    documents = [file for place in places.split() for file in [ROOT / place, *(ROOT / place).rglob("*.md")]]
    commands = []
    for document in filter(Path.is_file, documents):
        text = document.read_text().replace("\\\n", " ")
        commands += re.findall(r"python -m src\.(train|evaluate|segment|benchmark|export)((?: [^`\n]*)?)", text)
    assert len(commands) >= 5
    for program, rest in dict.fromkeys(commands):
        words = shlex.split(rest, comments=True)
        overrides = [word for word in words if "=" in word]
        if "-m" in words:
            [[overrides, *_]] = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(overrides), None)
        composed(program, *overrides)


@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_builds_its_clips_or_crops(name: str) -> None:
    config = composed("train", f"experiment={name}", "paths.output=/tmp/none")
    if "crop" in config.data:
        assert config.model.name == "covos"
        assert instantiate(config.data.crop).max_objects >= 1
        return
    settings = instantiate(config.data.clip)
    assert [least <= most for least, most in map(settings.gap_at, (0, 10, 1000))] == [True] * 3


def test_overrides_of_the_wandb_sweep_compose() -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load((CONF / "wandb_sweep.yaml").read_text())
    chosen = {
        name: {"value": said["values"][0] if "values" in said else said["min"]}
        for name, said in sweep["parameters"].items()
    }
    arguments = create_sweep_command_args({"args": chosen})["args_no_hyphens"]
    before, [place] = sweep["command"][:-1], sweep["command"][-1:]
    assert (before[:4], place) == (["${env}", "${interpreter}", "-m", "src.train"], "${args_no_hyphens}")
    config = composed("train", *before[4:], *arguments, "paths.output=/tmp/none")
    assert "wandb" in config.logger
    for name, value in chosen.items():
        assert OmegaConf.select(config, name) == value["value"], name


def test_gc_uses_the_recipe_of_gam() -> None:
    config = composed("train", "experiment=gam_davis", "model=gc")
    assert (config.model.name, config.model.network.cam, config.model.network.mem) == ("gam", False, False)
    assert config.data.clip.frames == 10


def test_slurm_run_folder_is_named_by_job_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {"JOB_ID": "77", "NTASKS": "6", "NTASKS_PER_NODE": "3", "NNODES": "2", "PROCID": "4", "LOCALID": "1"}
    for name, value in {**tasks, "NODEID": "1", "JOB_NAME": "train", "NODELIST": "a[1-2]"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    # The trainer sets it for the whole process; it is restored after this test.
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["trainer=slurm", "trainer.accelerator=cpu"], return_hydra_config=True)
        assert config.hydra.run.dir == "outputs/slurm_77_untitled"
        assert config.resume == "auto"
        config.paths.output = "/tmp/none"
        trainer = instantiate(config.trainer, logger=False)
    assert (trainer.world_size, trainer.global_rank, trainer.num_devices, trainer.num_nodes) == (6, 4, 3, 2)
    environment = trainer.strategy.cluster_environment
    assert type(environment).__name__ == "SLURMEnvironment"
    assert not environment.auto_requeue
