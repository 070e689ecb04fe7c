"""Shares work over the processes that torchrun, srun or a job array starts."""

from __future__ import annotations

import heapq
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from voslab.core import ConfigError

_WAIT = timedelta(days=30)
"""Time that a finished process waits for the others."""
T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that share the work.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
        local_rank: number of this process on its machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0


def process_group() -> ProcessGroup:
    """Read the number of this process from `RANK` and `WORLD_SIZE`, or from `SLURM_PROCID` and `SLURM_NTASKS`.

    Raises:
        ConfigError: if the variables are not whole numbers, or contradict each other.

    Example:
        >>> process_group().count
        1
    """
    rank, count, local = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if rank not in os.environ or count not in os.environ:
        rank, count, local = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
        if rank not in os.environ or count not in os.environ:
            return ProcessGroup()
    values = [os.environ.get(name, "0") for name in (rank, count, local)]
    described = f"{rank}={values[0]}, {count}={values[1]}"
    try:
        group = ProcessGroup(*map(int, values))
    except ValueError as error:
        raise ConfigError(f"{described}: must be whole numbers") from error
    if not 0 <= group.rank < group.count:
        raise ConfigError(f"{described}: processes are counted from 0")
    return group


def balanced_shares(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Distribute items so that the shares have similar lengths: the longest item first, to the shortest share.

    Args:
        lengths: length of each item.
        count: number of shares.

    Returns:
        indices of the items of each share, ascending.

    Example:
        >>> balanced_shares([9, 5, 4, 1], 2)
        [[0, 3], [1, 2]]
    """
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [(0, 0, share) for share in range(count)]
    for index in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        total, items, share = heapq.heappop(loads)
        shares[share].append(index)
        heapq.heappush(loads, (total + lengths[index], items + 1, share))
    return [sorted(share) for share in shares]


def gather(item: T) -> list[T]:
    """Collect an item from every process under torchrun, which kills all processes when one ends with an error.

    Args:
        item: item of this process.

    Returns:
        the items of all processes under torchrun; elsewhere that of this process.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or process_group().count == 1:
        return [item]
    from torch import distributed

    distributed.init_process_group("gloo", timeout=_WAIT)
    items: list[T | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(items, item)
    distributed.destroy_process_group()
    return [one for one in items if one is not None]
