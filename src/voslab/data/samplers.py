"""Distributes training clips and evaluation videos over the processes of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch.utils.data import DistributedSampler, SequentialSampler

from voslab.core import DataError, generator
from voslab.data.batches import BatchShare

SINGLE = BatchShare(processes=1, clips=1, passes=1)


class TrainSampler(DistributedSampler[Any]):
    """Yields the addresses (epoch, index) of one process, in an order that depends on (seed, epoch).

    The global order is cut into global batches, and those into one part per forward pass and process. So a run on
    several processes trains on the same global batches as a run on one. The incomplete last batch is dropped; it holds
    other clips in every epoch.

    The base class tells Lightning that nothing is left to distribute, whatever the trainer's `use_distributed_sampler`.

    Args:
        size: Number of clips in the data set.
        seed: Seed of the order.
        share: How a global batch is distributed.
        shuffle: Whether the order is random; otherwise it is by index.
        fixed: Whether every epoch repeats the clips of epoch 0.
        rank: Rank of this process.

    Raises:
        DataError: If the data set does not fill one global batch.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        share: BatchShare = SINGLE,
        *,
        shuffle: bool = True,
        fixed: bool = False,
        rank: int = 0,
    ) -> None:
        if size < share.batch:
            raise DataError(
                f"the training set has {size} clips an epoch, fewer than one batch of {share.batch}:"
                " lower batch_size or repeat the source"
            )
        super().__init__(cast(Any, range(size)), share.processes, rank, shuffle, seed, drop_last=True)
        self._size, self._seed, self._shuffle = size, seed, shuffle
        self._rank, self._share = rank, share
        self._fixed = fixed
        self._done = (-1, 0)

    @property
    def plan(self) -> tuple[int, int, int, int]:
        """Parameters of the order: number of clips, seed, clips per pass of all processes and per global batch."""
        return self._size, self._seed, self._share.clips * self._share.processes, self._share.batch

    @property
    def first(self) -> int:
        """Index of the pass at which the next iteration starts."""
        epoch, batches = self._done
        return batches if epoch == self.epoch else 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def skip_batches(self, epoch: int, batches: int) -> None:
        """Skip the first passes of an epoch, which were trained on before.

        Args:
            epoch: The epoch; all others are complete.
            batches: Number of passes to skip.
        """
        self._done = (epoch, batches)

    def __len__(self) -> int:
        """Return the number of addresses of a whole epoch, including skipped ones."""
        return self._size // self._share.batch * self._share.passes * self._share.clips

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = 0 if self._fixed else self.epoch
        order = range(self._size)
        indices = generator(self._seed, epoch, "order").permutation(order).tolist() if self._shuffle else order
        clips = self._share.clips
        for step in range(self.first, len(self) // clips):
            start = (step * self._share.processes + self._rank) * clips
            yield from ((epoch, index) for index in indices[start : start + clips])


class OverfitSampler(TrainSampler, SequentialSampler):  # type: ignore[misc]
    """`TrainSampler` for Lightning's `overfit_batches`, which replaces any sampler that is not sequential.

    Every epoch repeats the clips of epoch 0, in the order of their indices.

    Args:
        size: See `TrainSampler`.
        seed: See `TrainSampler`.
        share: See `TrainSampler`.
        rank: See `TrainSampler`.
    """

    def __init__(self, size: int, seed: int, share: BatchShare = SINGLE, *, rank: int = 0) -> None:
        super().__init__(size, seed, share, shuffle=False, fixed=True, rank=rank)


class EvaluationSampler(DistributedSampler[Any], SequentialSampler):
    """Yields the videos of one process. Every video belongs to exactly one process; none is repeated as padding.

    The longest videos are assigned first, each to the process with the fewest frames so far. The base classes tell
    Lightning that nothing is left to distribute, and that `overfit_batches` need not replace the sampler.

    Args:
        lengths: Number of frames of every video.
        rank: Rank of this process.
        world: Number of processes.

    Example:
        >>> [list(EvaluationSampler([5, 3, 3], rank, world=2)) for rank in (0, 1)]
        [[0], [1, 2]]
    """

    def __init__(self, lengths: Sequence[int], rank: int = 0, world: int = 1) -> None:
        super().__init__(cast(Any, lengths), world, rank, shuffle=False)
        loads = [0] * world
        self._mine: list[int] = []
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            target = loads.index(min(loads))
            loads[target] += lengths[index]
            if target == rank:
                self._mine.append(index)
        self._mine.sort()

    def __len__(self) -> int:
        return len(self._mine)

    def __iter__(self) -> Iterator[int]:
        return iter(self._mine)
