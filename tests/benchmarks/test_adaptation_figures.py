from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.adaptation_figures import Runner, _show
from tests.data.tree import davis_tree
from tests.methods.adaptation.world import base
from voslab.core import ConfigError
from voslab.data.sources.davis import davis
from voslab.engine import Settings
from voslab.methods.adaptation.network import Adapted


def runner(**choices: Any) -> Runner:
    network = Adapted(base("swiftnet"), **{"steps": 3, "lr": 0.1, **choices}).eval()
    return Runner(network, Settings(48), torch.device("cpu"))


def test_a_sequence_is_drawn_and_measured(tmp_path: Path) -> None:
    davis_tree(tmp_path / "DAVIS", names=("bear",), frames=5)
    [video] = davis(tmp_path / "DAVIS", 2017, "train")
    line = _show(runner(), video, [0.0, 0.5, 1.0], tmp_path / "out")
    assert line["sequence"] == "bear"
    assert line["seconds"] > 0
    assert line["frames"] == pytest.approx(line["seconds"] / line["frame_seconds"], rel=0.5)
    with (tmp_path / "out" / "curves.csv").open() as file:
        points = list(csv.DictReader(file))
    assert len(points) == 4
    assert float(points[0]["loss"]) == line["loss_before"]
    height, width = video.image(0).shape[:2]
    for name in ("heat", "masks"):
        image = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        assert image.shape == (2 * (height + 4), 3 * (width + 4), 3)
    assert all(isinstance(value, str | int | float) for value in line.values())


def test_frames_come_as_the_engine_brings_them(tmp_path: Path) -> None:
    image = np.zeros((100, 130, 3), np.uint8)
    labels = np.zeros((100, 130), np.int64)
    labels[:50] = 7
    frame, masks = runner().given(image, labels)
    assert masks is not None
    assert frame.image.shape[-2:] == masks.probs.shape[-2:] == (48, 64)
    assert masks.probs.shape[:2] == (1, 1)
    assert masks.probs.mean().item() == pytest.approx(0.5, abs=0.05)


def test_an_adaptation_without_steps_has_no_figures(tmp_path: Path) -> None:
    davis_tree(tmp_path / "DAVIS", names=("bear",), frames=3)
    [video] = davis(tmp_path / "DAVIS", 2017, "train")
    with pytest.raises(ConfigError, match="there is no object in frame 0"):
        _show(runner(steps=0), video, [0.0], tmp_path / "out")
