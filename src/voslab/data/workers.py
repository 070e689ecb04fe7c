"""Initialises the worker processes of a loader, and ends them with the program."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from weakref import WeakSet

import cv2

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_workers: WeakSet[BaseProcess] = WeakSet()


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
    others = set(multiprocessing.active_children())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        if not _workers:
            # After multiprocessing has registered its own function, which would wait for the workers, and before it.
            atexit.unregister(_kill_workers)
            atexit.register(_kill_workers)
        _workers.update(worker for worker in multiprocessing.active_children() if worker not in others)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(_: int) -> None:
    """Initialise a worker.

    OpenCV runs without threads: those of the parent do not survive the fork, and waiting for them would never end.
    The worker ignores SIGINT and SIGTERM, because the main process handles them and still needs the batches of its
    current step. A worker that is still there when the main process exits is killed.
    """
    cv2.setNumThreads(0)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _kill_workers() -> None:
    # torch's handler raises an error when a worker is killed.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in list(_workers):
        if worker.is_alive():
            worker.kill()
            worker.join()
