"""Who works on what: training indices and evaluation videos over the processes of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

from voslab.core import DataError, generator


class TrainSampler(Sampler[tuple[int, int]]):
    """Addresses (epoch, index) of one process, in an order keyed by (seed, epoch).

    The order of all processes together is cut into global batches of `batch * world`; each process takes its part of
    every one, so a run on several processes sees the batches that a run on one would. What does not fill a global batch
    is dropped, another part in every epoch.

    Args:
        size: clips in the data set.
        seed: of the order.
        shuffle: else by index.
        fixed: every epoch is epoch 0, the very same clips.
        rank: this process.
        world: number of processes.
        batch: clips per process and step.

    Raises:
        DataError: the data set does not fill one global batch.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        *,
        shuffle: bool = True,
        fixed: bool = False,
        rank: int = 0,
        world: int = 1,
        batch: int = 1,
    ) -> None:
        if size < batch * world:
            raise DataError(
                f"the training set has {size} clips an epoch, fewer than one batch of {batch * world}:"
                " lower batch_size or repeat the source"
            )
        self._size, self._seed, self._shuffle = size, seed, shuffle
        self._rank, self._world, self._batch = rank, world, batch
        self._fixed, self.epoch = fixed, 0
        self._done = (-1, 0)

    @property
    def plan(self) -> tuple[int, int, int]:
        """What decides on the order: clips, seed, and clips in a global batch."""
        return self._size, self._seed, self._batch * self._world

    @property
    def first(self) -> int:
        """The global batch at which the next iteration starts."""
        epoch, batches = self._done
        return batches if epoch == self.epoch else 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def leave_out(self, epoch: int, batches: int) -> None:
        """Begin that epoch, and no other, behind so many global batches: they were trained on before."""
        self._done = (epoch, batches)

    def __len__(self) -> int:
        """Addresses of a whole epoch, also of one that begins later."""
        return self._size // (self._batch * self._world) * self._batch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = 0 if self._fixed else self.epoch
        order = range(self._size)
        indices = generator(self._seed, epoch, "order").permutation(order).tolist() if self._shuffle else order
        for step in range(self.first, len(self) // self._batch):
            start = (step * self._world + self._rank) * self._batch
            yield from ((epoch, index) for index in indices[start : start + self._batch])


class EvaluationSampler(Sampler[int]):
    """Videos of one process: over all processes each comes exactly once, none is repeated to even out the numbers.

    The longest videos are dealt first, each to the process with the fewest frames so far.

    Args:
        lengths: frames of every video.
        rank: this process.
        world: number of processes.
    """

    def __init__(self, lengths: Sequence[int], rank: int = 0, world: int = 1) -> None:
        loads = [0] * world
        self._mine: list[int] = []
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            to = loads.index(min(loads))
            loads[to] += lengths[index]
            if to == rank:
                self._mine.append(index)
        self._mine.sort()

    def __len__(self) -> int:
        return len(self._mine)

    def __iter__(self) -> Iterator[int]:
        return iter(self._mine)
