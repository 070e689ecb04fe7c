from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voslab.nn.memory import Bank, DenseMemory

CELLS = 3


def frame(index: int, objects: int = 1, cells: int = CELLS) -> tuple[torch.Tensor, torch.Tensor]:
    """Key and value that say which frame they are of."""
    return torch.full((1, objects, cells, 2), float(index)), torch.full((1, objects, cells, 4), float(index))


def held(bank: Bank) -> list[int]:
    """The frames that a bank reads."""
    assert bank.keys is not None
    assert bank.values is not None
    keys, values = (x[0, 0, : bank.readable, 0].tolist() for x in (bank.keys, bank.values))
    assert keys == values
    return sorted(int(keys[i]) for i in range(0, len(keys), bank.frame_positions))


@given(
    stays=st.lists(st.booleans(), min_size=1, max_size=25),
    bound=st.none() | st.integers(2, 5),
    previous=st.booleans(),
    part=st.integers(1, CELLS),
    gradient=st.booleans(),
)
def test_the_policy_is_first_and_newest_and_perhaps_the_previous(
    stays: list[bool], bound: int | None, previous: bool, part: int, gradient: bool
) -> None:
    memory = DenseMemory([], bound, previous).extend(1)
    kept: list[int] = []
    with torch.set_grad_enabled(gradient):
        for index, stay in enumerate(stays):
            expected = [*kept, index] if previous else kept
            if stay or not kept:
                kept = [*kept, index] if bound is None or len(kept) < bound else [kept[0], *kept[2:], index]
                expected = kept
            assert memory.needs_write(stay) == (stay or previous or index == 0)
            cells = CELLS if stay or index == 0 else part
            memory = memory.write(*frame(index, cells=cells), stay)
            assert held(memory.banks[0]) == sorted(expected)
            temporary = previous and not stay and index > 0
            assert memory.banks[0].readable == CELLS * len(kept) + part * temporary


@given(
    kinds=st.lists(st.sampled_from(["temporary", "retained", "given"]), min_size=1, max_size=25),
    bound=st.none() | st.integers(2, 4),
    most=st.integers(1, 3),
    gradient=st.booleans(),
)
def test_given_frames_stay_beside_the_bound(kinds: list[str], bound: int | None, most: int, gradient: bool) -> None:
    memory = DenseMemory([], bound, True, most).extend(1)
    first, recent = [0], []
    with torch.set_grad_enabled(gradient):
        for index, kind in enumerate(kinds):
            temporary = []
            if kind == "given" and index and most > 1:
                first = [*first, index] if len(first) < most else [first[0], *first[2:], index]
            elif kind != "temporary" and index:
                recent = [*recent, index][1 - bound if bound else 0 :]
            elif index:
                temporary = [index]
            memory = memory.write(*frame(index), kind != "temporary", kind == "given")
            assert held(memory.banks[0]) == sorted([*first, *recent, *temporary])


def test_a_dropped_given_frame_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    memory = DenseMemory([], max_given=2).extend(1)
    for index in range(3):
        memory = memory.write(*frame(index), retain=True, given=True)
    assert held(memory.banks[0]) == [0, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "the memory holds 2 frames with given masks: the oldest except the first is dropped (memory_given)"
    ]


def test_each_object_looks_back_to_its_own_first_frame() -> None:
    memory = DenseMemory([], previous=False).extend(2)
    memory = memory.write(*frame(0, 2), retain=True).extend(1)
    assert memory.needs_write(False)
    memory = memory.write(*frame(1, 3), retain=False)
    assert [held(bank) for bank in memory.banks] == [[0], [1]]
    memory = memory.write(*frame(2, 3), retain=True)
    assert [held(bank) for bank in memory.banks] == [[0, 2], [1, 2]]
    assert memory.read(torch.zeros(1, 7, 2)).shape == (1, 3, 7, 4)


@torch.no_grad()
def test_a_clone_goes_its_own_way() -> None:
    memory = DenseMemory([]).extend(1).write(*frame(0), retain=True)
    memory = memory.write(*frame(1), retain=False)
    fork = memory.clone()
    memory.write(*frame(2), retain=True)
    assert held(fork.banks[0]) == [0, 1]


@torch.no_grad()
def test_a_bounded_memory_stays_as_large_as_its_bound_at_real_size() -> None:
    cells, bound = 30 * 54, 4
    memory = DenseMemory([], bound).extend(1)
    for index in range(12):
        key, value = torch.zeros(1, 1, cells, 128), torch.zeros(1, 1, cells, 512)
        memory = memory.write(key, value, retain=index % 2 == 0)
        assert memory.nbytes() <= (bound + 1) * cells * (128 + 512) * 4
    assert memory.nbytes() == (bound + 1) * 4_147_200


@torch.no_grad()
def test_an_unbounded_memory_wastes_no_more_than_half() -> None:
    memory = DenseMemory([]).extend(1)
    for index in range(40):
        memory = memory.write(*frame(index, cells=10), retain=True)
        assert memory.nbytes() <= 1.6 * (index + 2) * 10 * 6 * 4


@torch.no_grad()
def test_a_repeated_memory_is_as_large_and_reads_the_same() -> None:
    memory = DenseMemory([]).extend(1).write(torch.randn(1, 1, 5, 2), torch.randn(1, 1, 5, 4), retain=True)
    many = memory.repeat(20)
    query = torch.randn(1, 3, 2)
    assert many.nbytes() == 20 * memory.nbytes()
    assert torch.allclose(many.read(query), memory.read(query), atol=1e-6)
