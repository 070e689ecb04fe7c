"""What a loader's worker process does first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import cv2

_ANSWERED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def starting_workers() -> Iterator[None]:
    """Hold back a Ctrl-C or SIGTERM while workers start: one not yet in `start_worker` would end by it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ANSWERED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(_: int) -> None:
    """Set up a worker.

    OpenCV gets no threads: the parent's do not survive the fork, and waiting for them would never end. A Ctrl-C or a
    SIGTERM to the whole group is the main process's to answer: it still needs the batches of its current step. A second
    SIGTERM, such as the loader's own to a worker that hangs, ends the worker.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _spare_once)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ANSWERED)


def _spare_once(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
