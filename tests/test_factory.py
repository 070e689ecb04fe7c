"""Tests of the Python interface: `compose`, `lightning_module`, `datamodule` and Hydra's `instantiate`."""

from __future__ import annotations

from pathlib import Path

import hydra
import lightning as L
import pytest
import torch

import voslab
from tests.data.tree import davis_tree
from voslab.core import CheckpointError, ConfigError
from voslab.core.resources import resource
from voslab.data.datamodule import VOSDataModule
from voslab.methods import registry
from voslab.methods.gam.module import GAMModule
from voslab.training.module import VOSModule

SMALL = {"backbone": "resnet18", "width": 8}
TRAINED = sorted(
    path.stem
    for path in (resource("conf") / "model").glob("*.yaml")
    if path.stem not in ("copy_first", "oracle", "vectors")
)


@pytest.mark.parametrize("experiment", ["gam_davis", "crvos_ytvos", "scratch_stcn", "covos_davis"])
def test_hydra_builds_a_composed_recipe_in_any_folder(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    narrow = [] if experiment == "covos_davis" else ["model.network.width=8"]
    config = voslab.compose("train", [f"experiment={experiment}", "trainer=cpu", *narrow])
    assert isinstance(hydra.utils.instantiate(config.data), VOSDataModule)
    trainer = hydra.utils.instantiate(config.trainer, logger=False)
    assert (type(trainer), trainer.max_epochs, trainer.max_steps) == (
        L.Trainer,
        config.trainer.max_epochs,
        config.trainer.max_steps,
    )
    if experiment == "covos_davis":
        with pytest.raises(hydra.errors.InstantiationException, match="base_weights=FILE"):
            hydra.utils.instantiate(config.model)
    else:
        module = hydra.utils.instantiate(config.model)
        assert module.metadata.method == config.model.name
        assert module.metadata.network == config.model.network
        assert not (tmp_path / "outputs").exists(), "nothing is written before training"


@pytest.mark.parametrize("path", sorted((resource("conf") / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_hydra_builds_every_data_module(path: Path) -> None:
    assert isinstance(hydra.utils.instantiate(voslab.compose("train", [f"data={path.stem}"]).data), VOSDataModule)


@pytest.mark.parametrize("name", TRAINED)
def test_every_model_has_a_target_that_builds_its_module(name: str) -> None:
    config = voslab.compose("train", [f"model={name}"]).model
    assert config._target_ == "voslab.cli.training_module.build_module"
    if "base" not in config:
        assert type(hydra.utils.instantiate(config)) is registry.method(config.name).module()


def test_a_module_has_the_published_parameters_but_for_those_given() -> None:
    module = voslab.lightning_module("gam", **SMALL, training={"dice": 0.5}, size=240)
    assert type(module) is GAMModule
    assert {**voslab.compose("train", ["model=gam"]).model.network, **SMALL} == module.hparams["network"]
    assert (module.recipe.dice, module.settings.size) == (0.5, 240)
    assert module.hparams["engine"]["size"] == 240
    with pytest.raises(ConfigError, match="takes no 'backbon'; did you mean 'backbone'"):
        voslab.lightning_module("gam", backbon="resnet18")
    with pytest.raises(ConfigError, match="model=gma: no such choice; did you mean 'gam'"):
        voslab.lightning_module("gma")
    with pytest.raises(ConfigError, match="Recipe takes no 'dise'; did you mean 'dice'"):
        voslab.lightning_module("gam", training={"dise": 1.0})
    with pytest.raises(ConfigError, match="'copy_first' has nothing to train"):
        voslab.lightning_module("copy_first")
    with pytest.raises(CheckpointError, match=r"nowhere\.ckpt: no such weights file"):
        voslab.lightning_module("gam", weights="nowhere.ckpt")


def test_weights_of_the_project_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = voslab.compose("train", ["experiment=scratch_stcn_long"])
    module = hydra.utils.instantiate(config.model, weights=config.weights)
    assert isinstance(module, VOSModule)
    assert module.pretrained


def test_a_data_module_reads_the_folder_it_is_given(tmp_path: Path) -> None:
    davis_tree(tmp_path / "DAVIS", frames=6, year=2016)
    data = voslab.datamodule("davis2016", root=tmp_path, batch_size=1, num_workers=0, clip={"frames": 3}, val=None)
    data.setup("fit")
    [batch, *_] = data.train_dataloader()
    assert batch.images.shape[:3] == (1, 3, 3)
    with pytest.raises(ConfigError, match="takes no 'batchsize'; did you mean 'batch_size'"):
        voslab.datamodule("davis2016", batchsize=2)


def test_trainer_of_lightning_trains_a_module_with_its_defaults(tmp_path: Path) -> None:
    davis_tree(tmp_path / "DAVIS", frames=6)
    clips = {"augmentation": {"size": [32, 48], "short": 32}, "frames": 3, "min_area": 4}
    data = voslab.datamodule("davis2017", root=tmp_path, batch_size=2, num_workers=0, clip=clips, val=None)
    module = voslab.lightning_module("gam", **SMALL, value_channels=16, decoder_width=16, mem_channels=8, size=32)
    trainer = L.Trainer(max_steps=1, accelerator="cpu", logger=False, default_root_dir=tmp_path, limit_val_batches=0)
    before = torch.cat([p.flatten() for p in module.parameters()]).clone()
    trainer.fit(module, datamodule=data)
    assert not torch.equal(before, torch.cat([p.flatten() for p in module.parameters()]))


def test_composing_tells_of_wrong_names_in_one_line_and_leaves_no_global_state() -> None:
    with pytest.raises(ConfigError, match="trainer=cppu: no such choice; did you mean 'cpu'"):
        voslab.compose("train", ["trainer=cppu"])
    with hydra.initialize_config_dir(str(resource("conf")), version_base="1.3"):
        assert voslab.compose("train", ["paths.output=there"]).paths.output == "there"
        assert hydra.compose("train", ["model=gam"]).model.name == "gam"
