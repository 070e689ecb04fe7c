"""Tests of Lightning's own interface: `load_from_checkpoint`, `forward`, `predict_step` and hyperparameters."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from tests.training import small
from tests.training.test_module import clip
from voslab.core import CheckpointError, ConfigError
from voslab.core.checkpoint import METADATA_KEY
from voslab.methods.crvos.module import CRVOSModule
from voslab.methods.swiftnet.module import SwiftNetModule
from voslab.predictor import Predictor
from voslab.training.evaluation import mask_sinks
from voslab.training.module import VOSModule
from voslab.training.recipe import Recipe
from voslab.video import read_mask


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a training of one epoch, and its videos."""
    folder = tmp_path_factory.mktemp("run")
    videos = small.videos(folder / "videos", 4)
    small.trainer(folder, max_epochs=1).fit(small.module(), datamodule=small.data(videos))
    return folder


def saved(run: Path) -> Path:
    return run / "checkpoints" / "last.ckpt"


def test_a_module_is_rebuilt_from_its_checkpoint_alone(run: Path) -> None:
    module = SwiftNetModule.load_from_checkpoint(saved(run))
    assert type(VOSModule.load_from_checkpoint(str(saved(run)), map_location="cpu")) is SwiftNetModule
    assert module.settings.size == 32
    content = small.checkpoint(run)
    assert module.state_dict().keys() == content["state_dict"].keys()
    assert all(torch.equal(value, content["state_dict"][key]) for key, value in module.state_dict().items())
    with pytest.raises(CheckpointError, match="a checkpoint of 'swiftnet', which CRVOSModule does not train"):
        CRVOSModule.load_from_checkpoint(saved(run))


def test_hyperparameters_are_the_metadata_in_plain_types_and_name_no_class(run: Path) -> None:
    content = small.checkpoint(run)
    kept = dict(content["hyper_parameters"])
    assert (kept["method"], kept["network"]) == ("swiftnet", small.NETWORK)
    stored = {key: value for key, value in content[METADATA_KEY].items() if key not in ("training", "engine")}
    assert {key: kept[key] for key in stored} == stored
    assert "_target_" not in str(kept) + str(content[METADATA_KEY])
    assert SwiftNetModule.load_from_checkpoint(saved(run)).hparams["network"] == small.NETWORK


def test_forward_unrolls_a_clip(run: Path) -> None:
    module, batch = SwiftNetModule.load_from_checkpoint(saved(run)).eval(), clip(3)
    assert torch.equal(module(batch), module.unroll(batch))


def test_predictions_are_those_of_the_predictor_and_reach_the_sinks(run: Path, tmp_path: Path) -> None:
    data = small.data(small.videos(run / "videos", 4))
    module = SwiftNetModule.load_from_checkpoint(saved(run))
    module.sinks = mask_sinks(tmp_path)
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    [found] = L.Trainer(**options).predict(module, datamodule=data)
    video = data.test_videos[0]
    expected = Predictor.load(saved(run), device="cpu").segment(video.images, video.given_masks())
    assert found.name == video.name
    assert np.array_equal(found.ids, [prediction.ids for prediction in expected])
    for path, ids in zip(video.images, found.ids, strict=True):
        assert np.array_equal(read_mask(tmp_path / "masks" / video.name / f"{path.stem}.png"), ids)


def test_training_on_needs_a_recipe(run: Path, tmp_path: Path) -> None:
    data = small.data(small.videos(run / "videos", 4))
    with pytest.raises(ConfigError, match="without a recipe"):
        small.trainer(tmp_path, max_epochs=1).fit(SwiftNetModule.load_from_checkpoint(saved(run)), datamodule=data)
    recipe = Recipe(partial(torch.optim.SGD, lr=0.1))
    module = SwiftNetModule.load_from_checkpoint(saved(run), recipe=recipe)
    small.trainer(tmp_path, max_epochs=1).fit(module, datamodule=data)
    assert small.digest(small.checkpoint(tmp_path)) != small.digest(small.checkpoint(run))
