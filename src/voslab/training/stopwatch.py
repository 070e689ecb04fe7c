"""Measures the time that a training has taken."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def clock() -> float:
    """Return seconds: wall time on a GPU, else CPU time of this process, which other processes do not affect."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


class Stopwatch:
    """Measures time over several intervals. It starts paused.

    Args:
        seconds: initial value.
        now: clock in seconds.
    """

    def __init__(self, seconds: float = 0.0, now: Callable[[], float] = clock) -> None:
        self._before = seconds
        self._now = now
        self._since: float | None = None

    def start(self) -> None:
        """Start or continue."""
        if self._since is None:
            self._since = self._now()

    def pause(self) -> None:
        """Stop until the next start."""
        if self._since is not None:
            self._before += self._now() - self._since
            self._since = None

    def minutes(self) -> float:
        """Return the measured time in minutes."""
        return (self._before + (0.0 if self._since is None else self._now() - self._since)) / 60
