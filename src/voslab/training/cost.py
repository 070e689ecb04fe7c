"""What a training has cost so far, to be told beside its scores."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def clock() -> float:
    """Seconds: of the wall where a GPU computes, else of the processor, whatever else it does beside."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


class Cost:
    """A stopwatch of this process, that begins paused.

    Args:
        seconds: that count already.
        now: its clock.
    """

    def __init__(self, seconds: float = 0.0, now: Callable[[], float] = clock) -> None:
        self._before = seconds
        self._now = now
        self._since: float | None = None

    def go_on(self) -> None:
        """Count from now on."""
        if self._since is None:
            self._since = self._now()

    def pause(self) -> None:
        """Count no more."""
        if self._since is not None:
            self._before += self._now() - self._since
            self._since = None

    def minutes(self) -> float:
        """All that was counted."""
        return (self._before + (0.0 if self._since is None else self._now() - self._since)) / 60
