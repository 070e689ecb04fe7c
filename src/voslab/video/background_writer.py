"""Writes in a background thread with a bounded queue; failures are raised in the main thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class BackgroundWriter(Generic[T]):
    """Context manager that calls `write` on every item, in order, in one background thread.

    An error in `write` ends the thread. The next `put` or `close` raises it unchanged, and so does a `put` that is
    waiting. If the block ends with its own error, queued items are still written and that error propagates.

    Args:
        write: function that writes one item.
        capacity: maximum number of queued items, without the one that is being written.
    """

    def __init__(self, write: Callable[[T], None], capacity: int = 8) -> None:
        self._write, self._capacity = write, capacity
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._error: BaseException | None = None
        self._closed = False
        # Started with the first item: a writer that is never used leaves no thread behind.
        self._thread: Thread | None = None

    def put(self, item: T) -> None:
        """Queue an item; waits while the queue is full.

        Raises:
            ValueError: if the writer is closed.
            BaseException: the error of an earlier `write`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._closed or len(self._items) < self._capacity)
            if self._error is not None:
                raise self._error
            if self._closed:
                raise ValueError("put to a closed BackgroundWriter")
            self._items.append(item)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = Thread(target=self._work, name="background-writer", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Wait until everything is written and end the thread.

        Raises:
            BaseException: the error of an earlier `write`.
        """
        self._stop()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if kind is None and self._error is not None:
            raise self._error

    def _stop(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._closed)
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            try:
                self._write(item)
            except BaseException as error:  # `put` and `close` raise it in the main thread
                with self._changed:
                    self._error = error
                    self._items.clear()
                    self._changed.notify_all()
                return
