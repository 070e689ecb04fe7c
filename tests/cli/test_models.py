from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from tests.golden.support import published
from voslab.cli.arguments import CONFIGS
from voslab.cli.models import load_model
from voslab.cli.training_module import training_module
from voslab.core import CheckpointError, ConfigError
from voslab.core.archive import read_checkpoint
from voslab.methods import registry
from voslab.methods.checkpoint import load_weights
from voslab.methods.crvos.network import CRVOS
from voslab.nn.resnet import ResNet

SMALL = ("model.network.backbone=resnet18", "model.network.width=8", "model.network.refine_width=8")


def composed(program: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(program, [*overrides])


def test_a_published_checkpoint_loads_unchanged(tmp_path: Path) -> None:
    weights = published("crvos")
    torch.save({"net": {f"module.{key}": value for key, value in weights.items()}, "epoch": 3}, tmp_path / "best.tar")
    network = CRVOS()
    load_weights(network, "crvos", read_checkpoint(tmp_path / "best.tar"))
    assert torch.equal(network.refine.predictor.weight, weights["vos.refine.predictor.weight"])
    assert torch.equal(network.encoder.layer4[2].conv2.weight, weights["vos.backbone.layer4.2.conv2.weight"])


PUBLISHED = ("crvos", "stm", "stcn", "mivos", "swiftnet", "xmem", "cutie")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_fill_their_method_and_are_refused_by_name_elsewhere(name: str, tmp_path: Path) -> None:
    path = tmp_path / "published.pth"
    torch.save({f"module.{key}": value for key, value in published(name).items()}, path)
    load_weights(registry.build(name, {}), name, read_checkpoint(path))
    for other in PUBLISHED:
        if other != name:
            with pytest.raises(
                CheckpointError, match=rf"published\.pth: published weights of '{name}', not of '{other}'"
            ):
                load_weights(CRVOS("resnet18"), other, read_checkpoint(path))


def test_unrelated_weights_are_one_clear_error(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(
        CheckpointError, match=r"other\.pth: does not fit this network: .* unknown \(first: layer\.weight\)"
    ):
        load_weights(CRVOS("resnet18"), "crvos", read_checkpoint(tmp_path / "other.pth"))


def test_encoder_weights_enable_freezing(tmp_path: Path) -> None:
    donor = ResNet("resnet18", width=8)
    torch.save(donor.state_dict(), tmp_path / "imagenet.pth")
    module = training_module(composed("train", *SMALL, f"model.encoder_weights={tmp_path}/imagenet.pth"))
    assert module.pretrained
    assert torch.equal(module.segmenter.encoder.conv1.weight, donor.conv1.weight)
    assert not module.segmenter.encoder.layer3[0].conv1.weight.requires_grad
    assert not training_module(composed("train", *SMALL)).pretrained


def test_both_encoders_take_weights_of_their_own(tmp_path: Path) -> None:
    donors = {}
    for part, name in (("encoder", "resnet50"), ("mask_encoder", "resnet18")):
        donors[part] = ResNet(name, width=8)
        torch.save(donors[part].state_dict(), tmp_path / f"{part}.pth")
    files = [f"model.{part}_weights={tmp_path}/{part}.pth" for part in donors]
    module = training_module(composed("train", "model=gam", "model.network.width=8", *files)).train()
    for part, donor in donors.items():
        ours = module.segmenter.get_submodule(part)
        assert torch.equal(ours.layer3[0].conv1.weight, donor.layer3[0].conv1.weight)
    assert all(p.requires_grad for p in module.segmenter.parameters())
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms), "batch norm keeps its statistics, in the mask encoder too"


def test_the_engine_can_be_overridden_and_defaults_to_480() -> None:
    common = ("model=copy_first", "data=generated", "output=x")
    assert load_model(composed("evaluate", *common)).settings.size == 480
    changed = load_model(composed("evaluate", *common, "engine.size=100", "engine.precision=bf16")).settings
    assert (changed.size, changed.precision) == (100, "bf16")


def test_methods_without_parameters_cannot_be_trained() -> None:
    with pytest.raises(ConfigError, match="'copy_first' has nothing to train"):
        training_module(composed("train", "model=copy_first"))


def test_unknown_methods_and_parameters_name_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"unknown method 'crvso', choose from .*copy_first, covos, crvos"):
        registry.build("crvso", {})
    with pytest.raises(ConfigError, match=r"'crvos': network\.widht: CRVOS takes no 'widht'; did you mean 'width'\?"):
        registry.build("crvos", {"widht": 50})


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"width": -8}, "width=-8: must be a whole number from 1 to"),
        ({"width": 0}, "width=0: must be a whole number from 1 to"),
        ({"width": 10**9}, "memory"),
        ({"width": "wide"}, r"network\.width=wide: must be a whole number"),
        ({"base": {"a": 1}}, "base"),
        (5, "network=5: must hold the network's parameters"),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_impossible_networks_are_one_clear_error(network: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"model 'crvos': .*{message}") as error:
        registry.build("crvos", network)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"network\.base: must hold name and network"):
        registry.build("covos", {"base": {"a": 1}})
