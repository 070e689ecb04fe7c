"""The memory of XMem by itself: what it keeps, for how long, and in which size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from voslab.nn.affinity import attend
from voslab.nn.anisotropic import expand_keys, expand_query
from voslab.nn.long_term_memory import LongTermMemory, LongTermPolicy

N, C, V = 6, 4, 3
POLICY = LongTermPolicy(max_frames=4, min_frames=2, prototypes=3, max_elements=10)


def entry(seed: int, objects: int = 1, batch: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    keys, selection = torch.randn(batch, N, C, generator=rng), torch.rand(batch, N, C, generator=rng)
    return keys, 1 + torch.rand(batch, N, 1, generator=rng), selection, torch.randn(batch, objects, N, V, generator=rng)


def query(seed: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    keys, _, selection, _ = entry(1000 + seed, batch=batch)
    return keys, selection


def filled(frames: int, policy: LongTermPolicy = POLICY, objects: int = 1, batch: int = 1) -> LongTermMemory:
    memory = LongTermMemory.empty(batch, policy).extend(objects)
    for index in range(frames):
        memory = memory.write(*entry(index, objects, batch))
        _, memory = memory.read(*query(index, batch), 5)
    return memory


@pytest.mark.slow
@torch.no_grad()
def test_memory_is_constant_once_full_over_ten_thousand_frames() -> None:
    memory = LongTermMemory.empty(1, POLICY).extend(1)
    sizes, drift = [], []
    for index in range(10_000):
        memory = memory.write(*entry(index % 97))
        readout, memory = memory.read(*query(index % 89), 5)
        sizes.append(memory.nbytes())
        drift.append(float(readout.abs().max()))
    assert len(set(sizes[100:])) == 1
    assert sizes[100] < 20 * sizes[0]
    largest = max(float(entry(seed)[3].abs().max()) for seed in range(97))
    assert max(drift) <= largest, "prototypes are means of values, however often they are made"


@torch.no_grad()
def test_reading_equals_attention_over_all_frames_until_prototypes_are_made() -> None:
    memory = LongTermMemory.empty(1, replace(POLICY, enabled=False)).extend(2)
    for index in range(6):
        memory = memory.write(*entry(index, 2))
    keys, shrinkage, _, values = (torch.cat(parts, -2) for parts in zip(*(entry(i, 2) for i in range(6)), strict=True))
    for top_k in (None, 5):
        expected = attend(expand_query(*query(0)), expand_keys(keys, shrinkage).unsqueeze(1), values, top_k)
        torch.testing.assert_close(memory.read(*query(0), top_k)[0], expected)


@torch.no_grad()
def test_clips_do_not_depend_on_each_other() -> None:
    together = filled(14, objects=2, batch=2)
    alone = LongTermMemory.empty(1, POLICY).extend(2)
    for index in range(14):
        alone = alone.write(*(x[1:] for x in entry(index, 2, 2)))
        _, alone = alone.read(*(x[1:] for x in query(index, 2)), 5)
    expected = alone.read(*(x[1:] for x in query(0, 2)), 5)[0]
    torch.testing.assert_close(together.read(*query(0, 2), 5)[0][1:], expected)


@torch.no_grad()
def test_the_elements_that_are_read_most_become_prototypes() -> None:
    memory = LongTermMemory.empty(1, replace(POLICY, prototypes=1)).extend(1)
    entries = [entry(index) for index in range(4)]
    for each in entries[:3]:
        memory = memory.write(*each)
    # A query at one position of a frame that will be a candidate reads that position.
    wanted = entries[1][0][:, 2:3]
    for _ in range(3):
        _, memory = memory.read(wanted, torch.ones_like(wanted), 1)
    [clip] = memory.write(*entries[3]).clips
    assert clip.long is not None
    assert torch.equal(clip.long.keys[0, 0, :1], wanted[0])


@torch.no_grad()
def test_least_used_prototypes_are_dropped_with_all_their_ties() -> None:
    memory = LongTermMemory.empty(1, POLICY).extend(1)
    for index in range(20):
        memory = memory.write(*entry(index))
        assert memory.clips[0].sizes[1] <= POLICY.max_elements
    # Nothing was ever read, so at the bound all prototypes but the newest go.
    assert memory.clips[0].sizes[1] in (3, 6, 9)


@torch.no_grad()
@pytest.mark.parametrize("late", [1, 2, 3, 5, 9])
def test_late_objects_are_not_read_where_they_have_no_values(late: int) -> None:
    memory = LongTermMemory.empty(1, POLICY).extend(1)
    for index in range(14):
        objects = 1 + (index >= late)
        if index == late:
            memory = memory.extend(1)
        keys, shrinkage, selection, values = entry(index, objects)
        values[:, 1:] = 7
        memory = memory.write(keys, shrinkage, selection, values)
        readout, memory = memory.read(*query(index), 5)
        if index >= late:
            torch.testing.assert_close(readout[:, 1], torch.full_like(readout[:, 1], 7))


@torch.no_grad()
def test_copies_share_nothing() -> None:
    memory = filled(5)
    copy = memory.clone()
    expected = copy.read(*query(0), 5)[0]
    for index in range(5, 9):
        memory = memory.write(*entry(index))
    assert torch.equal(copy.read(*query(0), 5)[0], expected)


@torch.no_grad()
def test_a_benchmark_memory_is_as_large_as_after_that_many_frames() -> None:
    repeated = LongTermMemory.empty(1, POLICY).extend(2).write(*entry(0, 2)).repeat(11)
    assert repeated.clips[0].sizes == filled(11, objects=2).clips[0].sizes
