"""Computes items of an iterable ahead of time in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat, takewhile
from typing import TypeVar, cast

_END = object()
Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetch_map(
    make: Callable[[Item], Made], items: Iterable[Item], most: int = 8, threads: int = 2
) -> Iterator[Made]:
    """`map(make, items)` with up to `most` results made before they are asked for, in order.

    An error comes where its result would have. What decodes images leaves Python's lock alone meanwhile.
    """
    coming = iter(items)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Made]] = deque()
    try:
        for item in coming:
            waiting.append(pool.submit(make, item))
            if len(waiting) == most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def prefetch(items: Iterable[Item], most: int = 2) -> Iterator[Item]:
    """The same items, up to `most` of them made in a thread before they are asked for. An error comes in its place."""
    source = iter(items)
    made = prefetch_map(lambda _: next(source, _END), repeat(None), most, threads=1)
    return cast("Iterator[Item]", takewhile(lambda item: item is not _END, made))
