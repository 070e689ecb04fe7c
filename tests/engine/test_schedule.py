from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given as for_all
from hypothesis import strategies as st

from voslab.core import CodecData, RawFrame
from voslab.engine.schedule import presentation_order, schedule_frames

IMAGE = np.zeros((2, 2, 3), np.uint8)


def frame(index: int, kind: str = "plain", *references: int) -> RawFrame:
    if kind == "plain":
        return RawFrame(index, IMAGE)
    fields = torch.full((1, 2, 2, 2), -1, dtype=torch.int32)
    for place, reference in enumerate(references):
        fields.view(-1)[place] = reference
    return RawFrame(index, IMAGE, CodecData(kind, references=fields))


PYRAMID = [
    *(frame(0, "I"), frame(4, "P", 0), frame(2, "B", 0, 4), frame(1, "B", 0, 2), frame(3, "B", 2, 4)),
    *(frame(8, "P", 4), frame(6, "B", 4, 8), frame(5, "B", 4, 6), frame(7, "B", 6, 8)),
]


def order(frames: list[RawFrame], born: set[int]) -> list[tuple[int, bool]]:
    return [(one.frame.index, one.key) for one in schedule_frames(frames, born)]


def test_frames_without_codec_data_are_key_frames() -> None:
    assert order([frame(i) for i in range(5)], {0, 3}) == [(i, True) for i in range(5)]


def test_b_frames_follow_their_references() -> None:
    expected = [(0, True), (4, True), (2, False), (1, False), (3, False), (8, True), (6, False), (5, False), (7, False)]
    assert order(PYRAMID, {0}) == expected


def test_object_on_a_b_frame_makes_key_frames_up_to_the_next_anchor() -> None:
    # Frame 4 waits for frames 2 and 3; frame 1 for frame 2.
    expected = [(0, True), (2, True), (1, False), (3, True), (4, True)]
    assert order(PYRAMID, {0, 2})[:5] == expected
    assert order(PYRAMID, {0, 2})[5:] == [(8, True), (6, False), (5, False), (7, False)]


def test_mask_on_an_anchor_does_not_change_the_order() -> None:
    assert order(PYRAMID, {0, 4}) == order(PYRAMID, {0})


def test_frame_with_a_missing_reference_comes_last_as_key_frame() -> None:
    assert order([frame(0, "I"), frame(2, "P", 0), frame(1, "B", 0, 9)], {0}) == [(0, True), (2, True), (1, True)]


def test_scheduled_frames_list_live_references() -> None:
    live_refs = {0: {0}, 4: {0, 4}, 2: {0, 2, 4}, 1: {2, 4}, 3: {4}, 8: {4, 8}, 6: {4, 6, 8}, 5: {6, 8}, 7: {8}}
    frames = [
        replace(one, codec=replace(one.codec, live_refs=frozenset(live_refs[one.index])))
        for one in PYRAMID
        if one.codec is not None
    ]
    assert {one.frame.index: one.live_refs for one in schedule_frames(frames, {0})} == live_refs
    # Frames 1 and 2 wait until frame 3, which is decoded last, and frame 4 were there.
    turns = {one.frame.index: one.live_refs for one in schedule_frames(frames, {0, 3})}
    assert list(turns)[:5] == [0, 3, 4, 2, 1]
    assert turns[3] == turns[4] == {0, 2, 4}
    assert {one.live_refs for one in schedule_frames(PYRAMID, {0})} == {None}


def test_frames_are_read_lazily() -> None:
    taken: list[int] = []

    def source() -> Iterator[RawFrame]:
        for one in PYRAMID:
            taken.append(one.index)
            yield one

    turns = schedule_frames(source(), {0})
    assert (next(turns).frame.index, taken) == (0, [0])
    assert [next(turns).frame.index for _ in range(4)] == [4, 2, 1, 3]
    assert taken == [0, 4, 2, 1, 3]


@for_all(st.sets(st.integers(0, 8)))
def test_every_frame_comes_once_after_its_dependencies(masks: set[int]) -> None:
    turns = order(PYRAMID, masks)
    places = {index: place for place, (index, _) in enumerate(turns)}
    assert sorted(places) == list(range(9))
    keys = [index for index, key in turns if key]
    assert keys == sorted(keys)
    assert masks <= set(keys)
    for one in PYRAMID:
        assert one.codec is not None
        assert one.codec.references is not None
        if one.index not in keys:
            assert all(places[i] < places[one.index] for i in one.codec.references.unique().tolist() if i >= 0)


@dataclass(frozen=True)
class SyntheticObject:
    index: int


@for_all(st.permutations(range(6)))
def test_results_are_sorted_by_presentation_index(indices: list[int]) -> None:
    # The first frame decoded is the first one shown.
    indices = [0, *(index + 1 for index in indices)]
    assert [thing.index for thing in presentation_order(SyntheticObject(index) for index in indices)] == list(range(7))


def test_results_are_yielded_as_soon_as_possible() -> None:
    given: list[int] = []
    out: list[int] = []

    def source() -> Iterator[SyntheticObject]:
        for index in (0, 2, 1, 3):
            given.append(index)
            yield SyntheticObject(index)

    for thing in presentation_order(source()):
        out.append(thing.index)
        assert len(given) - len(out) <= 1


@pytest.mark.parametrize("indices", [[], [3], [3, 4, 5]])
def test_first_index_is_arbitrary_and_sources_may_be_empty(indices: list[int]) -> None:
    assert [thing.index for thing in presentation_order(SyntheticObject(index) for index in indices)] == indices
