from __future__ import annotations

import pytest
import torch

from voslab.core import Masks
from voslab.methods.covos.reference_buffer import BufferedFrame, nearest_key, reduce, remember, retain, with_background


def buffered(index: int, key: bool = False) -> BufferedFrame:
    return BufferedFrame(index, key, torch.zeros(1, 1, 2, 2))


def indices(frames: list[BufferedFrame]) -> list[int]:
    return [buffered.index for buffered in frames]


def test_buffer_keeps_two_newest_key_frames_and_newest_others() -> None:
    frames: list[BufferedFrame] = []
    for index in range(0, 12, 4):
        frames = remember(frames, buffered(index, key=True), 2)
    for index in (6, 5, 7):
        frames = remember(frames, buffered(index), 2)
    assert indices(frames) == [4, 8, 5, 7], "in decode order; 4 and 8 are key frames"
    assert indices(remember(frames, buffered(5), 2)) == [4, 8, 7, 5], "a frame is stored once"
    assert indices(remember(frames, buffered(9), 0)) == [4, 8]


def test_retain_keeps_the_requested_frames() -> None:
    frames = [buffered(0, True), buffered(8, True), buffered(4), buffered(2), buffered(12, True)]
    assert indices(retain(frames, {2, 99})) == [8, 2, 12]
    assert indices(retain(frames, ())) == [8, 12]


@pytest.mark.parametrize(("index", "nearest"), [(1, 0), (4, 0), (5, 8), (9, 8)])
def test_nearest_key_prefers_the_earlier_of_two(index: int, nearest: int) -> None:
    frames = [buffered(8, True), buffered(0, True), buffered(4), buffered(5), buffered(1)]
    assert nearest_key(frames, index).index == nearest


def test_later_objects_have_empty_masks_in_older_frames() -> None:
    made = BufferedFrame(0, True, torch.ones(1, 1, 2, 2)).pad_objects(3)
    assert made.shape == (1, 3, 2, 2)
    assert made.sum((0, 2, 3)).tolist() == [4, 0, 0]


def test_masks_are_reduced_to_the_likeliest_label_or_the_mean_of_the_middle() -> None:
    probs = torch.zeros(1, 2, 4, 12)
    probs[0, 0, :, :2] = 1
    probs[0, 1, 2:, 2:] = 1
    probs[0, 1, :, 8:] = 1
    masks = Masks(probs, torch.tensor([[True, True]]))
    assert reduce(with_background(masks), hard_labels=False)[0, :, 0].tolist() == [[0.5, 0, 0], [0.25, 0.5, 1]]
    assert reduce(with_background(masks), hard_labels=True)[0, :, 0].tolist() == [[1, 0, 0], [0, 0, 1]]
    unused = with_background(Masks(probs, torch.tensor([[True, False]])))
    assert unused[0, 2].sum() == 0
    assert torch.equal(unused.sum(1), torch.ones(1, 4, 12))
