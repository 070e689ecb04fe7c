from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from src.core import ConfigError
from src.engine.coding import Coding
from src.video import open_video
from tests.video.clips import encode
from tests.video.test_coded import PAN, fields


def test_the_motion_of_b_frames_is_a_switch(tmp_path: Path) -> None:
    video = open_video(encode(tmp_path / "a.mp4", PAN, crf="10", **{"x264-params": "ref=1:b-pyramid=none:weightp=0"}))
    codec, flow = (list(Coding(tmp_path, motion=motion).pictures(video)) for motion in ("codec", "flow"))
    assert [picture.index for picture in codec] == [picture.index for picture in flow]
    for one, other in zip(codec, flow, strict=True):
        assert one.coded is not None
        assert (fields(one)[0] is fields(other)[0]) is False
        assert bool((fields(one)[0] == fields(other)[0]).all()) == (one.coded.type != "B")


def test_holes_are_filled_unless_it_is_switched_off(tmp_path: Path) -> None:
    images = PAN.copy()
    random = np.random.default_rng(0)
    images[1::2, 16:48, 32:64] = random.integers(0, 256, (8, 32, 32, 3))
    options = "ref=1:b-pyramid=none:weightp=0:b-adapt=0:bframes=3"
    video = open_video(encode(tmp_path / "a.mp4", images, crf="10", **{"x264-params": options}))
    filled, plain = (list(Coding(tmp_path, fill=fill).pictures(video)) for fill in ("nearest", "none"))
    seen = 0
    for one, other in zip(filled, plain, strict=True):
        assert one.coded is not None
        if one.coded.type == "B":
            seen += bool((fields(other)[1] < 0).all(1).any())
            assert (fields(one)[1] >= 0).any(1).all()
        else:
            assert torch.equal(fields(one)[1], fields(other)[1])
    assert seen


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="motion=optical: choose from codec, flow, vectors_as_flow"):
        Coding(Path(), motion="optical")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="fill=far: choose from none, nearest, matched, flow"):
        Coding(Path(), fill="far")  # type: ignore[arg-type]
