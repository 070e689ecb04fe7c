"""Propagates masks in a thread, frame by frame, and reports how far it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from voslab.core import VOSError
from voslab.engine import Prediction

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """State of a propagation.

    Attributes:
        running: Whether it runs.
        done: Frames that are done.
        total: Frames in all.
        seconds: Time since its start, until its end.
        error: Why it failed; empty otherwise.
        cancelled: Whether it was cancelled.
    """

    running: bool = False
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    error: str = ""
    cancelled: bool = False


class Update(NamedTuple):
    """What is new about a frame.

    Attributes:
        frame: Frame number.
        uncertainty: Uncertainty of its mask; None where the second model predicted it.
        agreement: Agreement of both models; None where one of them has no mask.
    """

    frame: int
    uncertainty: float | None
    agreement: float | None


class Propagation:
    """Runs one propagation at a time."""

    def __init__(self) -> None:
        self._progress = Progress()
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self._updates: list[Update] = []

    def start(self, predictions: Iterator[Prediction], total: int, store: Callable[[Prediction], Update]) -> bool:
        """Start a propagation.

        Args:
            predictions: Predictions, computed when they are asked for.
            total: Their number.
            store: Stores a prediction; called in the thread.

        Returns:
            Whether it was started: false while another one runs.
        """
        with self._lock:
            if self._progress.running:
                return False
            self._progress = Progress(running=True, total=total)
        self._cancel.clear()
        self._thread = threading.Thread(target=self._run, args=(predictions, store), name="propagation", daemon=True)
        self._thread.start()
        return True

    def cancel(self) -> None:
        """Stop after the current frame, and wait for it."""
        self._cancel.set()
        if self._thread is not None:
            self._thread.join()

    def progress(self, after: int = 0) -> tuple[Progress, int, list[Update]]:
        """Return the state, the number of updates so far, and the updates after a number of them.

        Args:
            after: Number of updates that are known.

        Returns:
            State, number of updates, and the new ones.
        """
        with self._lock:
            return self._progress, len(self._updates), self._updates[max(0, after) :]

    def _run(self, predictions: Iterator[Prediction], store: Callable[[Prediction], Update]) -> None:
        started = time.monotonic()
        error = ""
        try:
            for prediction in predictions:
                update = store(prediction)
                with self._lock:
                    self._updates.append(update)
                    done = self._progress.done + 1
                    self._progress = replace(self._progress, done=done, seconds=time.monotonic() - started)
                if self._cancel.is_set():
                    break
        except VOSError as problem:
            error = " ".join(str(problem).split())
        except Exception as problem:  # the page must learn of it, and the server goes on
            log.exception("the propagation failed")
            error = f"{type(problem).__name__}: {problem}"
        finally:
            if isinstance(predictions, Generator):
                predictions.close()
            with self._lock:
                self._progress = replace(
                    self._progress,
                    running=False,
                    seconds=time.monotonic() - started,
                    error=error,
                    cancelled=self._cancel.is_set() and self._progress.done < self._progress.total,
                )
