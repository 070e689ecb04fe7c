from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voslab.core import DataError
from voslab.data import EvaluationSampler, TrainSampler
from voslab.data.batches import BatchShare


def ranks(
    size: int, world: int, batch: int, epoch: int = 0, passes: int = 1, **options: bool
) -> list[list[tuple[int, int]]]:
    share = BatchShare(world, batch, passes)
    samplers = [TrainSampler(size, 7, share, rank=rank, **options) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in samplers]
    assert [len(share) for share in shares] == [len(sampler) for sampler in samplers]
    return shares


@given(size=st.integers(1, 60), world=st.integers(1, 5), batch=st.integers(1, 4), epoch=st.integers(0, 9))
def test_processes_share_the_epoch_without_overlap(size: int, world: int, batch: int, epoch: int) -> None:
    if size < world * batch:
        with pytest.raises(DataError, match=rf"{size} clips an epoch, fewer than one batch of {world * batch}"):
            ranks(size, world, batch)
        return
    shares = ranks(size, world, batch, epoch)
    assert len({len(share) for share in shares}) == 1
    seen = [address for share in shares for address in share]
    assert len(seen) == len(set(seen)) == size // (world * batch) * world * batch
    assert {e for e, _ in seen} == {epoch}
    assert {index for _, index in seen} <= set(range(size))


@given(world=st.integers(1, 5), batch=st.integers(1, 3), passes=st.integers(1, 3), epoch=st.integers(0, 4))
def test_global_batches_do_not_depend_on_their_distribution(world: int, batch: int, passes: int, epoch: int) -> None:
    size, whole = 47, world * batch * passes
    (alone,) = ranks(size, 1, whole, epoch)
    shares = ranks(size, world, batch, epoch, passes)
    assert len(alone) == size // whole * whole
    mine = batch * passes
    for step in range(size // whole):
        together = [address for share in shares for address in share[step * mine : (step + 1) * mine]]
        assert sorted(together) == sorted(alone[step * whole : (step + 1) * whole])


def test_order_is_keyed_by_seed_and_epoch() -> None:
    assert ranks(20, 1, 1, epoch=1) == ranks(20, 1, 1, epoch=1)
    orders = {tuple(index for _, index in ranks(20, 1, 1, epoch=epoch)[0]) for epoch in range(5)}
    assert len(orders) == 5
    assert list(TrainSampler(20, 8)) != list(TrainSampler(20, 7))
    assert ranks(6, 1, 2, epoch=3, shuffle=False) == [[(3, index) for index in range(6)]]


def test_fixed_is_always_epoch_zero() -> None:
    assert ranks(9, 1, 2, epoch=5, fixed=True) == ranks(9, 1, 2, epoch=0)


@given(lengths=st.lists(st.integers(1, 200), max_size=40), world=st.integers(1, 5))
def test_every_video_is_assigned_once_and_frames_are_balanced(lengths: list[int], world: int) -> None:
    shares = [list(EvaluationSampler(lengths, rank, world)) for rank in range(world)]
    assert sorted(index for share in shares for index in share) == list(range(len(lengths)))
    assert all(share == sorted(share) for share in shares)
    loads = [sum(lengths[index] for index in share) for share in shares]
    # Greedy assignment: loads differ by at most the length of one video.
    assert max(loads) - min(loads) <= max(lengths, default=0)
    assert max(loads) <= sum(lengths) / world + max(lengths, default=0)


def test_long_videos_are_dealt_first() -> None:
    assert [list(EvaluationSampler([10, 10, 10, 30], rank, 2)) for rank in range(2)] == [[3], [0, 1, 2]]
