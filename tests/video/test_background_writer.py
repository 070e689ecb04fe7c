from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import perf_counter, sleep

import pytest

from voslab.core import WriteError
from voslab.video import BackgroundWriter


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "background-writer"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not threads()


def within(seconds: float, function: Callable[[], object]) -> BaseException | None:
    """What the function raised, which must end in time."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "deadlock"
    return raised[0] if raised else None


def test_items_are_written_in_order_with_a_bounded_queue() -> None:
    written: list[int] = []
    prefetch_map = 0
    with BackgroundWriter(written.append, capacity=8) as writer:
        for index in range(2000):
            writer.put(index)
            prefetch_map = max(prefetch_map, index + 1 - len(written))
    assert written == list(range(2000))
    assert prefetch_map <= 8 + 1


def test_put_waits_for_a_slow_consumer() -> None:
    gate = threading.Event()
    with BackgroundWriter(lambda _: gate.wait(5), capacity=2) as writer:
        for index in range(3):  # one in the writer's hands, two in the queue
            writer.put(index)
        blocked = threading.Thread(target=writer.put, args=(3,))
        blocked.start()
        blocked.join(0.1)
        assert blocked.is_alive()
        gate.set()
        blocked.join(5)
        assert not blocked.is_alive()


@pytest.mark.parametrize("error", [WriteError("full"), OSError(28, "full"), KeyError("bug")])
def test_error_is_raised_by_the_next_put(error: Exception) -> None:
    def fail(item: int) -> None:
        raise error

    writer = BackgroundWriter(fail, capacity=4)

    def produce() -> None:
        for index in range(10):
            writer.put(index)

    assert within(5, produce) is error
    assert within(5, writer.close) is error


def test_error_wakes_a_waiting_put() -> None:
    gate = threading.Event()
    error = WriteError("full")

    def fail(item: int) -> None:
        gate.wait(5)
        raise error

    writer = BackgroundWriter(fail, capacity=1)
    writer.put(0)
    while writer._items:
        sleep(0.001)
    writer.put(1)
    threading.Timer(0.1, gate.set).start()
    start = perf_counter()
    assert within(5, lambda: writer.put(2)) is error
    assert perf_counter() - start >= 0.05
    assert within(5, writer.close) is error


def test_error_on_the_last_item_is_raised_on_exit() -> None:
    def fail(item: int) -> None:
        sleep(0.05)
        raise WriteError("full")

    with pytest.raises(WriteError, match="full"), BackgroundWriter(fail) as writer:
        writer.put(0)


def test_an_error_of_the_block_is_not_masked_and_drops_the_queue() -> None:
    written: list[int] = []

    def fail_late(item: int) -> None:
        sleep(0.05)
        written.append(item)
        raise WriteError("masking")

    def produce() -> None:
        with BackgroundWriter(fail_late) as writer:
            for index in range(5):
                writer.put(index)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        produce()
    assert len(written) <= 1


def test_close_writes_the_queue_and_can_be_repeated() -> None:
    written: list[int] = []

    def slow(item: int) -> None:
        sleep(0.01)
        written.append(item)

    writer = BackgroundWriter(slow)
    for index in range(5):
        writer.put(index)
    writer.close()
    writer.close()
    assert written == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="closed"):
        writer.put(5)


def test_a_writer_that_is_never_used_has_no_thread() -> None:
    writer = BackgroundWriter(print)
    assert not threads()
    writer.close()
