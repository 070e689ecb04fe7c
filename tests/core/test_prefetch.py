from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from voslab.core.prefetch import prefetch, prefetch_map


@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_results_come_in_order(count: int) -> None:
    assert list(prefetch_map(lambda x: x * x, range(count), most=4)) == [x * x for x in range(count)]


def test_number_of_prefetched_results_is_bounded() -> None:
    made: list[int] = []
    results = prefetch_map(made.append, range(100), most=5, threads=1)
    for _ in range(3):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(made) <= 3 + 5


def test_next_result_is_computed_in_the_background() -> None:
    second = threading.Event()
    results = prefetch_map(lambda x: second.set() if x else None, range(9))
    next(results)
    assert second.wait(10)


def test_error_is_raised_in_place_of_its_result() -> None:
    results = prefetch_map(lambda x: 1 // x, (1, 1, 0, 1))
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_prefetched_items_are_the_same(count: int) -> None:
    assert list(prefetch(iter(range(count)))) == list(range(count))


def test_exactly_one_item_is_prefetched() -> None:
    fetched: list[int] = []
    second = threading.Event()

    def items() -> Iterator[int]:
        for item in range(9):
            fetched.append(item)
            if item:
                second.set()
            yield item

    coming = prefetch(items())
    assert next(coming) == 0
    assert second.wait(10)
    del coming
    gc.collect()
    assert fetched == [0, 1]


def test_source_error_is_raised_after_earlier_items() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("broken")

    coming = prefetch(items())
    assert next(coming) == 1
    with pytest.raises(OSError, match="broken"):
        next(coming)


def test_consumed_items_are_released() -> None:
    coming = prefetch(np.zeros(4) for _ in range(9))
    kept = [weakref.ref(next(coming)) for _ in range(7)]
    gc.collect()
    assert [ref() for ref in kept] == [None] * 7
