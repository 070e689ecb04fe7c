from __future__ import annotations

from dataclasses import replace

import pytest

from voslab.video.h264.nal import Slice
from voslab.video.h264.references import (
    HIDDEN,
    Buffer,
    Reference,
    fill_frame_num_gaps,
    mark_references,
    reference_lists,
)

SLICE = Slice("P", True, False, 0, 16, 3, (3, 0), ((), ()), None, False, False)


def short(*pairs: tuple[int, int]) -> tuple[Reference, ...]:
    return tuple(Reference(index, number) for index, number in pairs)


def lists(buffer: Buffer, header: Slice, index: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return reference_lists(buffer, (header,), index)


def test_p_frame_lists_start_with_the_last_decoded_frame() -> None:
    buffer = Buffer(short((0, 0), (4, 1), (2, 2)), 2)
    assert lists(buffer, replace(SLICE, frame_number=3), 8) == ((2, 4, 0), ())
    assert lists(buffer, replace(SLICE, frame_number=3, active=(2, 0)), 8) == ((2, 4), ())


def test_frame_numbers_wrap() -> None:
    buffer = Buffer(short((10, 15), (11, 0), (9, 14)), 0)
    assert lists(buffer, replace(SLICE, frame_number=1), 12)[0] == (11, 10, 9)


def test_b_frame_lists_are_sorted_by_distance() -> None:
    buffer = Buffer(short((0, 0), (4, 1), (8, 2), (6, 3)), 3)
    header = replace(SLICE, type="B", frame_number=4, active=(4, 4))
    assert lists(buffer, header, 5) == ((4, 0, 6, 8), (6, 8, 4, 0))
    assert lists(buffer, replace(header, active=(2, 1)), 5) == ((4, 0), (6,))


def test_equal_lists_are_swapped() -> None:
    buffer = Buffer(short((0, 0), (4, 1)), 1)
    assert lists(buffer, replace(SLICE, type="B", active=(2, 2)), 9) == ((4, 0), (0, 4))
    assert lists(buffer, replace(SLICE, type="B", active=(2, 1)), 9) == ((4, 0), (0,))


def test_list_modifications_reorder_by_number() -> None:
    buffer = Buffer((*short((0, 0), (4, 1), (2, 2)), Reference(1, 9, long_term=3)), 2)
    header = replace(SLICE, frame_number=3, active=(4, 0))
    assert lists(buffer, header, 8)[0] == (2, 4, 0, 1)
    assert lists(buffer, replace(header, changes=(((0, 2), (1, 1)), ())), 8)[0] == (0, 2, 4, 1)
    assert lists(buffer, replace(header, changes=(((2, 3),), ())), 8)[0] == (1, 2, 4, 0)
    twice = replace(header, active=(3, 0), changes=(((0, 0), (0, 15)), ()))
    assert lists(buffer, twice, 8)[0] == (2, 4)
    assert lists(buffer, replace(header, changes=(((2, 7),), ())), 8)[0] == (HIDDEN, 2, 4, 0)


def test_lists_of_slices_are_concatenated() -> None:
    buffer = Buffer(short((0, 0), (4, 1)), 1)
    one, other = (replace(SLICE, frame_number=2, active=(count, 0)) for count in (1, 2))
    assert reference_lists(buffer, (one, other), 5) == ((4, 0), ())
    assert reference_lists(buffer, (replace(one, type="I", active=(0, 0)),), 5) == ((), ())


def test_sliding_window_removes_the_oldest_reference() -> None:
    buffer = Buffer()
    for index in range(6):
        buffer = mark_references(
            buffer, replace(SLICE, frame_number=index % 4, max_frame_number=4, idr=index == 0), index
        )
    assert buffer.indices() == {3, 4, 5}
    assert mark_references(buffer, replace(SLICE, reference=False), 6) == buffer
    assert mark_references(buffer, replace(SLICE, idr=True, long_term=True), 7) == Buffer((Reference(7, 0, 0),), 0)


@pytest.mark.parametrize(
    ("marks", "kept"),
    [
        (((1, 0),), {0, 4, 9}),
        (((1, 1), (1, 2)), {2, 9}),
        (((3, 2, 1),), {0, 2, 4, 9}),
        (((3, 2, 1), (2, 1)), {2, 4, 9}),
        (((3, 2, 1), (4, 1)), {2, 4, 9}),
        (((3, 2, 1), (3, 1, 1)), {2, 4, 9}),
        (((6, 0),), {0, 2, 4, 9}),
        (((5,),), {9}),
    ],
)
def test_memory_management_operations_are_applied(marks: tuple[tuple[int, ...], ...], kept: set[int]) -> None:
    buffer = Buffer(short((0, 0), (4, 1), (2, 2)), 2)
    found = mark_references(buffer, replace(SLICE, frame_number=3, max_references=4, marks=marks), 9)
    assert found.indices() == kept
    assert {r.index for r in found.references if r.long_term is not None} <= {0, 4, 9}
    assert found.number == (0 if (5,) in marks else 3)


def test_gaps_are_filled_with_hidden_frames() -> None:
    buffer = Buffer(short((0, 0), (4, 1), (2, 2)), 2)
    assert fill_frame_num_gaps(buffer, replace(SLICE, frame_number=3)) == buffer
    assert fill_frame_num_gaps(buffer, replace(SLICE, frame_number=2)) == buffer
    one = fill_frame_num_gaps(buffer, replace(SLICE, frame_number=4))
    assert [r.index for r in one.references] == [4, 2, HIDDEN]
    assert one.number == 3
    assert fill_frame_num_gaps(buffer, replace(SLICE, frame_number=1)).indices() == {HIDDEN}
    assert fill_frame_num_gaps(buffer, replace(SLICE, idr=True)) == buffer
