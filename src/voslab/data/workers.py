"""Initialises the worker processes of a loader."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import cv2

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def cores_per_process(processes: int) -> int:
    """Return the number of cores for each of the training processes of this machine, at least 1.

    Args:
        processes: training processes on this machine; SLURM gives each its cores, otherwise they share them.
    """
    if given := os.environ.get("SLURM_CPUS_PER_TASK"):
        return max(1, int(given))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // processes)


@contextmanager
def starting_workers() -> Iterator[None]:
    """Block SIGINT and SIGTERM while workers start, which would end a worker that has not run `start_worker`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(_: int) -> None:
    """Initialise a worker.

    OpenCV runs without threads: those of the parent do not survive the fork, and waiting for them would never end.
    The worker ignores SIGINT and the first SIGTERM, because the main process handles them and still needs the batches
    of its current step. A second SIGTERM, which the loader sends to a worker that hangs, ends the worker.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_once)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _ignore_once(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
