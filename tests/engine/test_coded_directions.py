"""Backward runs and parts of video with codec data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.video.clips import encode
from tests.video.test_codec_reader import PAN
from voslab.core import Frame, Segmenter
from voslab.engine import Prediction, Settings
from voslab.engine.codec_source import CodecSource
from voslab.engine.directions import Part, propagate
from voslab.engine.sources import OpenedSource, open_source
from voslab.methods.copy_first.network import CopyFirst
from voslab.methods.covos.network import CoVOS
from voslab.methods.vectors.network import Vectors
from voslab.video import open_video

Labels = np.ndarray


class Recorder(Vectors):
    """Records which frames a B-frame's masks came from, and the order of the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[tuple[int, bool, frozenset[int]]] = []

    def step(self, frame: Frame, state: Any) -> tuple[Tensor, Any]:
        buffered = {entry.index for entry in state.buffered}
        assert frame.codec is not None
        used = set() if frame.codec.references is None else set(frame.codec.references.unique().tolist())
        self.frames.append((frame.index, frame.key, frozenset(used & buffered)))
        return super().step(frame, state)


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> OpenedSource:
    """Groups of pictures of 12 frames: I at 0, 12 and 24, P at the other multiples of 4, B between."""
    folder = tmp_path_factory.mktemp("coded")
    options = "keyint=12:min-keyint=12:scenecut=0:ref=1:b-pyramid=none:weightp=0:b-adapt=0:bframes=3"
    path = encode(folder / "a.mp4", np.concatenate([PAN, PAN[::-1]])[:30], **{"x264-params": options})
    return open_source(path, CodecSource(folder), "vectors")


def keys(source: OpenedSource, masks: dict[int, Labels], part: Part, network: Segmenter[Any]) -> dict[int, Prediction]:
    return {one.index: one for one in propagate(network, source.frames, masks, part, Settings())}


def box() -> Labels:
    labels = np.zeros((64, 96), np.int64)
    labels[16:48, 16:80] = 5
    return labels


def test_b_frames_have_the_same_references_backward(coded: OpenedSource) -> None:
    forward, backward = Recorder(), Recorder()
    ahead = keys(coded, {0: box()}, Part("forward"), forward)
    back = keys(coded, {29: box()}, Part("backward"), backward)
    assert list(back) == list(range(29, -1, -1))
    anchors = {index for index, one in ahead.items() if one.key}
    assert 8 < len(anchors) < 15
    assert {index for index, one in back.items() if one.key} == anchors | {29}
    used = {index: references for index, key, references in forward.frames if not key}
    mirrored = {29 - index: frozenset(29 - i for i in used) for index, key, used in backward.frames if not key}
    assert used == mirrored
    assert sum(len(references) == 2 for references in used.values()) > 10
    order = [29 - index for index, key, _ in backward.frames if key]
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize(("given", "extra"), [(22, {22, 21}), (17, {17}), (20, set()), (29, {29})])
def test_a_mask_on_a_b_frame_makes_key_frames_down_to_the_previous_anchor(
    coded: OpenedSource, given: int, extra: set[int]
) -> None:
    anchors = {index for index, one in keys(coded, {0: box()}, Part("forward"), Vectors()).items() if one.key}
    back = keys(coded, {given: box()}, Part("backward", end=given), Vectors())
    assert {index for index, one in back.items() if one.key} == {one for one in anchors if one <= given} | extra
    assert np.array_equal(back[given].ids, box())
    assert list(back) == list(range(given, -1, -1))


@pytest.mark.parametrize("given", [13, 14, 16])
def test_a_part_of_coded_video_equals_the_whole(coded: OpenedSource, given: int) -> None:
    for direction, start, end in (("forward", given, 21), ("backward", 3, given)):
        whole = keys(coded, {given: box()}, Part(direction), Vectors())
        part = keys(coded, {given: box()}, Part(direction, start, end), Vectors())
        assert sorted(part) == list(range(start, end + 1))
        for index, one in part.items():
            assert np.array_equal(one.ids, whole[index].ids)
            assert one.key == whole[index].key


def test_coded_frames_before_the_first_mask_of_a_part_are_empty_and_in_order(coded: OpenedSource) -> None:
    for masks in ({16: box()}, {0: box(), 16: box()}):
        part = keys(coded, masks, Part("forward", 13, 20), Vectors())
        assert [(index, bool(one.ids.any())) for index, one in part.items()] == [
            (index, index >= 16) for index in range(13, 21)
        ]
    for masks in ({12: box()}, {12: box(), 29: box()}):
        part = keys(coded, masks, Part("backward", 8, 15), Vectors())
        assert [(index, bool(one.ids.any())) for index, one in part.items()] == [
            (index, index <= 12) for index in range(15, 7, -1)
        ]


def test_covos_goes_backward_over_an_encoded_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CoVOS(CopyFirst(), backbone="resnet18", width=8).eval()
    source = open_source(encode(tmp_path / "a.mp4", PAN), CodecSource(tmp_path), "covos")
    found = keys(source, {15: box()}, Part("backward"), network)
    assert list(found) == list(range(15, -1, -1))
    assert any(not one.key for one in found.values())
    video = {frame.index: frame.image for frame in open_video(tmp_path / "a.mp4")}
    assert all(np.array_equal(one.image, video[index]) for index, one in found.items())
    both = keys(source, {8: box()}, Part("both"), network)
    assert sorted(both) == list(range(16))
