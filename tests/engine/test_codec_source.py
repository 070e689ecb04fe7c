from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.video.clips import encode
from tests.video.test_codec_reader import PAN, fields
from voslab.core import ConfigError
from voslab.engine.codec_source import CodecSource
from voslab.engine.keys import Keys
from voslab.video import open_video
from voslab.video.encode import Encoding


def test_motion_of_b_frames_can_be_replaced(tmp_path: Path) -> None:
    video = open_video(encode(tmp_path / "a.mp4", PAN, crf="10", **{"x264-params": "ref=1:b-pyramid=none:weightp=0"}))
    codec, flow = (list(CodecSource(tmp_path, motion=motion).frames(video)) for motion in ("codec", "flow"))
    assert [frame.index for frame in codec] == [frame.index for frame in flow]
    for one, other in zip(codec, flow, strict=True):
        assert one.codec is not None
        assert (fields(one)[0] is fields(other)[0]) is False
        assert bool((fields(one)[0] == fields(other)[0]).all()) == (one.codec.type != "B")


def test_intra_blocks_are_filled_unless_disabled(tmp_path: Path) -> None:
    images = PAN.copy()
    random = np.random.default_rng(0)
    images[1::2, 16:48, 32:64] = random.integers(0, 256, (8, 32, 32, 3))
    options = "ref=1:b-pyramid=none:weightp=0:b-adapt=0:bframes=3"
    video = open_video(encode(tmp_path / "a.mp4", images, crf="10", **{"x264-params": options}))
    filled, plain = (list(CodecSource(tmp_path, intra_fill=fill).frames(video)) for fill in ("nearest", "none"))
    seen = 0
    for one, other in zip(filled, plain, strict=True):
        assert one.codec is not None
        if one.codec.type == "B":
            seen += bool((fields(other)[1] < 0).all(1).any())
            assert (fields(one)[1] >= 0).any(1).all()
            holes = (fields(other)[1] < 0).all(1, keepdim=True)
            assert (fields(other)[2][holes] == 1).all(), "the residual of what nothing predicts is its maximum"
            assert torch.equal(fields(other)[2][~holes], fields(one)[2][~holes])
        else:
            assert torch.equal(fields(one)[1], fields(other)[1])
    assert seen


def test_unknown_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="motion=optical: choose from codec, flow, vectors_as_flow"):
        CodecSource(Path(), motion="optical")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="intra_fill=far: choose from none, nearest, matched, flow"):
        CodecSource(Path(), intra_fill="far")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"encoding": {"foo": 1}}, "model.encoding.foo: Encoding takes no 'foo'"),
        ({"encoding": {"crf": "fine"}}, "model.encoding.crf=fine: must be a number"),
        ({"encoding": {"crf": 99}}, "x264 knows no crf 99"),
        ({"encoding": {}, "motion": 3}, "model.motion=3: must be one of codec, flow"),
        ({"encoding": {}, "intrafil": "none"}, "CodecSource takes no 'intrafil'; did you mean 'intra_fill'"),
        ({"encoding": "fast"}, "model.encoding: {'encoding': 'fast'} has no settings of x264"),
        ({}, "has no settings"),
        ("fast", "has no settings"),
    ],
)
def test_invalid_plain_values_are_named(values: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        CodecSource.from_plain(Path(), values)


def test_codec_source_is_built_from_plain_values() -> None:
    assert CodecSource.from_plain(Path("a"), None) is None
    dumped = CodecSource.from_plain(Path("a"), {"encoding": {}, "vectors": "b"})
    assert dumped == CodecSource(Path("a"), vectors=Path("b"))
    keyed = CodecSource.from_plain(Path("a"), {"encoding": {}, "keys": {"policy": "every_k", "every": 3}})
    assert keyed == CodecSource(Path("a"), keys=Keys("every_k", every=3))
    made = CodecSource.from_plain(
        Path("a"), {"encoding": {"crf": 30, "bframes": None}, "motion": "flow", "intra_fill": "none"}
    )
    assert made == CodecSource(Path("a"), Encoding(crf=30), "flow", "none")
