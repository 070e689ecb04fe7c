"""Records SIGTERM, Ctrl-C and SLURM's warning signal until it is safe to stop."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Any


class Signals:
    """Records the first signal; a second Ctrl-C interrupts immediately.

    Lightning's handlers communicate with the other processes from within the handler, which is unsafe. These handlers
    are installed later and replace them.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._children: Sequence[subprocess.Popen[Any]] = ()

    def install(self, numbers: Sequence[int], children: Sequence[subprocess.Popen[Any]] = ()) -> None:
        """Install the handlers.

        Args:
            numbers: signals to record.
            children: processes that get a SIGTERM when a signal arrives.
        """
        self._children = children
        for number in numbers:
            signal.signal(number, self._record)

    def _record(self, number: int, _: FrameType | None) -> None:
        if self.received is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.received = number
        for child in self._children:
            with suppress(OSError):
                child.send_signal(signal.SIGTERM)


def requeue() -> None:
    """Ask SLURM to start this job again."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    subprocess.run(["scontrol", "requeue", job], check=False)
