"""Propagates masks in a thread, frame by frame, and reports how far it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

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


class Propagation:
    """Runs one propagation at a time.

    Args:
        store: Stores a prediction and returns its uncertainty; called in the thread.
    """

    def __init__(self, store: Callable[[Prediction], float]) -> None:
        self._store = store
        self._progress = Progress()
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self._updates: list[tuple[int, float]] = []

    def start(self, predictions: Iterator[Prediction], total: int) -> bool:
        """Start a propagation.

        Args:
            predictions: Predictions, computed when they are asked for.
            total: Their number.

        Returns:
            Whether it was started: false while another one runs.
        """
        with self._lock:
            if self._progress.running:
                return False
            self._progress = Progress(running=True, total=total)
        self._cancel.clear()
        self._thread = threading.Thread(target=self._run, args=(predictions,), name="propagation", daemon=True)
        self._thread.start()
        return True

    def cancel(self) -> None:
        """Stop after the current frame, and wait for it."""
        self._cancel.set()
        if self._thread is not None:
            self._thread.join()

    def progress(self, after: int = 0) -> tuple[Progress, int, list[tuple[int, float]]]:
        """Return the state, the number of updates so far, and the updates after a number of them.

        Args:
            after: Number of updates that are known.

        Returns:
            State, number of updates, and frame and uncertainty of each new one.
        """
        with self._lock:
            return self._progress, len(self._updates), self._updates[max(0, after) :]

    def _run(self, predictions: Iterator[Prediction]) -> None:
        started = time.monotonic()
        error = ""
        try:
            for prediction in predictions:
                value = self._store(prediction)
                with self._lock:
                    self._updates.append((prediction.index, value))
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
