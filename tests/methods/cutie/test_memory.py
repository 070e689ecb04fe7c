"""The pixel memory of Cutie by itself: what it keeps, for how long, and in which size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from voslab.methods.cutie.memory import BucketMemory
from voslab.nn.long_term_memory import LongTermPolicy

N, C, V = 6, 4, 3
LONG = LongTermPolicy(max_frames=4, min_frames=2, prototypes=3, max_elements=12, spare=2)
BOUND = LongTermPolicy(enabled=False, bound=3)


def entry(seed: int, objects: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    keys, selection = torch.randn(1, N, C, generator=rng), torch.rand(1, N, C, generator=rng)
    return keys, 1 + torch.rand(1, N, 1, generator=rng), selection, torch.randn(1, objects, N, V, generator=rng)


def filled(frames: int, policy: LongTermPolicy, late: int | None = None) -> BucketMemory:
    memory, objects = BucketMemory.empty(1, policy).extend(1), 1
    for index in range(frames):
        if index == late:
            memory, objects = memory.extend(1), 2
        memory = memory.write(*entry(index, objects))
        keys, _, selection, _ = entry(1000 + index)
        _, memory = memory.read(keys, selection, 5)
    return memory


@pytest.mark.slow
@pytest.mark.parametrize("policy", [BOUND, LONG], ids=["bound", "long_term"])
@torch.no_grad()
def test_memory_is_constant_once_full_over_ten_thousand_frames(policy: LongTermPolicy) -> None:
    memory, sizes = BucketMemory.empty(1, policy).extend(1), []
    entries = [entry(seed) for seed in range(19)]
    for index in range(10_000):
        memory = memory.write(*entries[index % 19])
        if index % 7 == 0:
            keys, _, selection, _ = entries[(3 * index) % 19]
            _, memory = memory.read(keys, selection, 5)
        sizes.append(memory.nbytes())
    assert len(set(sizes[100:])) == 1
    assert sizes[100] < 20 * sizes[0]


@torch.no_grad()
def test_the_oldest_frame_but_the_first_is_dropped() -> None:
    [clip] = filled(6, BOUND).buckets[0].clips
    assert clip.working is not None
    expected = torch.cat([entry(index)[0] for index in (0, 4, 5)], 1)
    assert torch.equal(clip.working.slice(0, clip.working.size)[0][0], expected)


@torch.no_grad()
def test_the_most_used_prototypes_survive_an_eviction() -> None:
    [clip] = filled(9, LONG).buckets[0].clips
    assert clip.long is not None
    assert clip.sizes == (3 * N, 9)
    used, keys = clip.long.mean_usage(), clip.long.keys[0, 0]
    survivors = keys[used.topk(12 - 3 - 2).indices]
    [clip] = filled(9, LONG).write(*entry(9)).buckets[0].clips
    assert clip.long is not None
    assert clip.sizes == (2 * N, 10)
    left = {tuple(row) for row in clip.long.keys[0, 0, :7].tolist()}
    assert left == {tuple(row) for row in survivors.tolist()}


@pytest.mark.parametrize("policy", [BOUND, LONG], ids=["bound", "long_term"])
@torch.no_grad()
def test_a_bucket_does_not_depend_on_the_others(policy: LongTermPolicy) -> None:
    both = filled(9, policy, late=4)
    alone = BucketMemory.empty(1, policy).extend(1)
    for index in range(4, 9):
        keys, shrinkage, selection, values = entry(index, 2)
        alone = alone.write(keys, shrinkage, selection, values[:, 1:])
        _, alone = alone.read(*(entry(1000 + index)[i] for i in (0, 2)), 5)  # type: ignore[misc]
    query, _, selection, _ = entry(7)
    torch.testing.assert_close(both.read(query, selection, 5)[0][:, 1:], alone.read(query, selection, 5)[0])


@torch.no_grad()
def test_a_benchmark_memory_is_as_large_as_after_that_many_frames() -> None:
    for policy in (BOUND, LONG):
        repeated = BucketMemory.empty(1, policy).extend(1).write(*entry(0)).repeat(8)
        assert repeated.buckets[0].clips[0].sizes == filled(8, policy).buckets[0].clips[0].sizes
