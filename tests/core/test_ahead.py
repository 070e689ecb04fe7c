from __future__ import annotations

import threading

import pytest

from src.core.ahead import ahead


@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_results_come_in_order(count: int) -> None:
    assert list(ahead(lambda x: x * x, range(count), most=4)) == [x * x for x in range(count)]


def test_no_more_are_made_than_asked_for() -> None:
    made: list[int] = []
    results = ahead(made.append, range(100), most=5, threads=1)
    for _ in range(3):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(made) <= 3 + 5


def test_the_next_is_made_meanwhile() -> None:
    second = threading.Event()
    results = ahead(lambda x: second.set() if x else None, range(9))
    next(results)
    assert second.wait(10)


def test_an_error_comes_in_its_place() -> None:
    results = ahead(lambda x: 1 // x, (1, 1, 0, 1))
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
