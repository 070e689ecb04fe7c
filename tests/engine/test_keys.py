"""Tests of the key frame policies, on made-up frames and on streams of an encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.video.clips import encode
from tests.video.test_codec_reader import pan
from voslab.core import CodecData, ConfigError, RawFrame
from voslab.engine import Settings, run
from voslab.engine.codec_source import CodecSource
from voslab.engine.keys import Keys, Policy, select_keys
from voslab.engine.live import LiveFrames
from voslab.engine.mirror import Mirror
from voslab.engine.schedule import schedule_frames
from voslab.methods.copy_first.network import CopyFirst
from voslab.methods.covos.network import CoVOS
from voslab.video import open_video

IMAGE = np.zeros((8, 8, 3), np.uint8)
COUNT = 20


def frame(index: int, kind: str, *references: int, residual: float = 0.0, holes: float = 0.0) -> RawFrame:
    fields = torch.full((1, 2, 2, 10), -1, dtype=torch.int32)
    for place, reference in enumerate(references):
        fields[:, place, :, round(10 * holes) :] = reference
    motion, error = torch.zeros(1, 4, 2, 10), torch.full((1, 1, 2, 10), residual)
    return RawFrame(index, IMAGE, CodecData(kind, motion, fields, error))


def low_delay(count: int = 10, **options: float) -> list[RawFrame]:
    return [frame(0, "I"), *(frame(index, "P", index - 1, **options) for index in range(1, count))]


PYRAMID = [
    *(frame(0, "I"), frame(4, "P", 0), frame(2, "B", 0, 4), frame(1, "B", 0, 2), frame(3, "B", 2, 4)),
    *(frame(8, "P", 4), frame(6, "B", 4, 8), frame(5, "B", 4, 6), frame(7, "B", 6, 8)),
]


def key_frames(frames: list[RawFrame], policy: Policy, given: tuple[int, ...] = (0,), **options: Any) -> list[int]:
    selected = select_keys(frames, Keys(policy, **options))
    return [one.frame.index for one in schedule_frames(selected, given) if one.key]


@pytest.mark.parametrize(
    ("policy", "options", "expected"),
    [
        ("ip", {}, list(range(10))),
        ("i", {}, [0, 9]),
        ("i", {"chain": 3}, [0, 4, 8]),
        ("every_k", {}, [0, 5]),
        ("every_k", {"every": 3}, [0, 3, 6, 9]),
        ("every_k", {"every": 1}, list(range(10))),
        ("adaptive", {}, [0, 9]),
        ("adaptive", {"chain": 4}, [0, 5]),
    ],
)
def test_p_frames_of_a_stream_without_b_frames(policy: Policy, options: dict[str, int], expected: list[int]) -> None:
    assert key_frames(low_delay(), policy, **options) == expected


def test_adaptive_keys_are_where_the_prediction_failed() -> None:
    frames = low_delay()
    frames[3] = frame(3, "P", 2, residual=-0.2)
    frames[6] = frame(6, "P", 5, holes=0.3)
    frames[8] = frame(8, "P", 7, residual=0.04, holes=0.1)
    assert key_frames(frames, "adaptive") == [0, 3, 6]
    assert key_frames(frames, "adaptive", share=0.4) == [0, 3]
    assert key_frames(frames, "adaptive", share=0.0) == [0, 3, 6, 8]


@pytest.mark.parametrize("policy", ["i", "every_k", "adaptive"])
def test_a_p_frame_without_any_vector_is_a_key_frame(policy: Policy) -> None:
    frames = low_delay()
    frames[2] = frame(2, "P")
    assert 2 in key_frames(frames, policy, share=1.0)


def test_distances_are_counted_in_frames_and_chains_in_p_frames() -> None:
    assert key_frames(PYRAMID, "ip") == [0, 4, 8]
    assert key_frames(PYRAMID, "every_k", every=5) == [0, 8]
    assert key_frames(PYRAMID, "every_k", every=4) == [0, 4, 8]
    assert key_frames(PYRAMID, "i", chain=1) == [0, 8]
    order = [one.frame.index for one in schedule_frames(select_keys(PYRAMID, Keys("i")), {0})]
    assert order == [0, 4, 2, 1, 3, 8, 6, 5, 7], "each after its references"


@pytest.mark.parametrize("policy", ["ip", "i", "every_k", "adaptive"])
@pytest.mark.parametrize("frames", [PYRAMID, low_delay(9)], ids=["pyramid", "low delay"])
def test_a_given_mask_makes_a_key_frame(frames: list[RawFrame], policy: Policy) -> None:
    for index in range(9):
        turns = list(schedule_frames(select_keys(frames, Keys(policy)), {0, index}))
        keys = [one.frame.index for one in turns if one.key]
        assert index in keys
        assert keys == sorted(keys)
        assert sorted(one.frame.index for one in turns) == list(range(9))


@pytest.mark.parametrize("wrong", [{"policy": "p"}, {"every": 0}, {"chain": 0}, {"share": 1.5}])
def test_invalid_policies_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(wrong)))):
        Keys(**wrong)
    with pytest.raises(ConfigError, match=r"model\.keys"):
        CodecSource.from_plain(Path(), {"encoding": {}, "keys": wrong})
    with pytest.raises(ConfigError, match=r"model\.keys: every_k has no settings; give model/keys=NAME"):
        CodecSource.from_plain(Path(), {"encoding": {}, "keys": "every_k"})


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pan without B-frames, as from a camera."""
    path = tmp_path_factory.mktemp("keys") / "a.mp4"
    return encode(path, pan(COUNT, (64, 96)), bf="0", tune="zerolatency")


def masks() -> dict[int, np.ndarray]:
    given = np.zeros((64, 96), np.int64)
    given[16:48, 40:72] = 1
    return {0: given}


@pytest.mark.parametrize(("policy", "keys"), [("ip", 20), ("i", 3), ("every_k", 4), ("adaptive", 3)])
def test_a_stream_without_b_frames_is_propagated(clip: Path, tmp_path: Path, policy: Policy, keys: int) -> None:
    network = CoVOS(CopyFirst(), refine=False, correction=False)
    frames = CodecSource(tmp_path, keys=Keys(policy, share=0.6)).frames(open_video(clip))
    predictions = list(run(network, frames, masks(), Settings()))
    assert [one.index for one in predictions] == list(range(COUNT))
    assert sum(one.key for one in predictions) == keys
    moved = [one.index for one in predictions if not np.array_equal(one.ids, masks()[0])]
    # The base returns the first mask, so that what moves was propagated.
    assert set(moved) <= {one.index for one in predictions if not one.key}
    assert bool(moved) == (policy != "ip")


def test_holes_of_propagated_p_frames_are_filled(tmp_path: Path) -> None:
    images = pan(COUNT, (64, 96))
    images[1::2, 16:48, 32:64] = np.random.default_rng(0).integers(0, 256, (COUNT // 2, 32, 32, 3))
    clip = encode(tmp_path / "a.mp4", images, bf="0", tune="zerolatency")
    for fill, expected in (("nearest", False), ("none", True)):
        source = CodecSource(tmp_path, intra_fill=fill, keys=Keys("i"))  # type: ignore[arg-type]
        found = False
        for one in source.frames(open_video(clip)):
            assert one.codec is not None
            if not one.codec.is_key:
                assert one.codec.references is not None
                assert one.codec.residual is not None
                holes = (one.codec.references < 0).all(1, keepdim=True)
                found |= bool(holes.any())
                assert (one.codec.residual[holes] == 1).all()
        assert found == expected


def test_backward_propagation_keeps_every_frame(clip: Path, tmp_path: Path) -> None:
    access = CodecSource(tmp_path, keys=Keys("every_k", every=4)).access(open_video(clip))
    mirror = Mirror({COUNT - 1: masks()[0]}, COUNT - 1)
    frames = map(mirror.frame, access.backward(COUNT - 1))
    predictions = list(run(CoVOS(CopyFirst(), refine=False, correction=False), frames, mirror, Settings()))
    assert [mirror.index(one.index) for one in predictions] == list(reversed(range(COUNT)))
    assert 4 <= sum(one.key for one in predictions) < 12


def test_a_live_stream_that_drops_frames_segments_the_next_p_frame_anew() -> None:
    class Stream:
        paced, frames, dropped = False, 0, 0

    stream: Any = Stream()
    live = LiveFrames(iter(()), stream)
    groups = [[one] for one in select_keys(low_delay(6), Keys("i"))]
    kept = [one for group in (groups[0], groups[1], groups[4], groups[5]) for one in live._renumber(group)]
    assert [one.index for one in kept] == [0, 1, 2, 3]
    assert [one.codec is not None and one.codec.is_key for one in kept] == [True, False, True, False]
    assert stream.dropped == 0
    assert kept[3].codec is not None
    assert kept[3].codec.references is not None
    assert set(kept[3].codec.references.unique().tolist()) == {-1, 2}
    turns = list(schedule_frames(kept, {0}))
    assert [(one.frame.index, one.key) for one in turns] == [(0, True), (1, False), (2, True), (3, False)]


def test_codec_data_says_by_its_type_which_frames_are_keys() -> None:
    assert [CodecData(kind).is_key for kind in "IPB"] == [True, True, False]
    assert replace(CodecData("P"), key=False).is_key is False
    assert replace(CodecData("B"), key=True).is_key is True
