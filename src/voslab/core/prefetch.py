"""Computes items of an iterable ahead of time in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat, takewhile
from typing import TypeVar, cast

_END = object()
Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch_map(
    function: Callable[[Item], Result], items: Iterable[Item], most: int = 8, threads: int = 2
) -> Iterator[Result]:
    """Apply a function to items in background threads, ahead of their use.

    Args:
        function: function that releases the GIL most of the time, such as decoding an image.
        items: its arguments.
        most: maximum number of results that are computed in advance.
        threads: number of threads.

    Yields:
        the results in order. An error of the function is raised in place of its result.
    """
    pool = ThreadPoolExecutor(threads)
    pending: deque[Future[Result]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) == most:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def prefetch(items: Iterable[Item], most: int = 2) -> Iterator[Item]:
    """Iterate over items in a background thread, ahead of their use.

    Args:
        items: the items.
        most: maximum number of items that are fetched in advance.

    Returns:
        an iterator over the items. An error of the source is raised after the items before it.
    """
    source = iter(items)
    fetched = prefetch_map(lambda _: next(source, _END), repeat(None), most, threads=1)
    return cast("Iterator[Item]", takewhile(lambda item: item is not _END, fetched))
