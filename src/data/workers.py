"""What a loader's worker process does first."""

from __future__ import annotations

import signal
from types import FrameType

import cv2


def start_worker(_: int) -> None:
    """Set up a worker.

    OpenCV gets no threads: the parent's do not survive the fork, and waiting for them would never end. A Ctrl-C or a
    SIGTERM to the whole group is the main process's to answer: it still needs the batches of its current step. A second
    SIGTERM, such as the loader's own to a worker that hangs, ends the worker.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _spare_once)


def _spare_once(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
