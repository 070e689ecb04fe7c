"""Tests of the stopwatch."""

from __future__ import annotations

from voslab.training.stopwatch import Stopwatch


def test_only_time_between_start_and_pause_counts() -> None:
    seconds = 1000.0
    watch = Stopwatch(60, lambda: seconds)
    assert watch.minutes() == 1
    seconds = 2000
    watch.start()
    seconds += 120
    assert watch.minutes() == 3
    watch.start()
    watch.pause()
    seconds += 5000
    watch.pause()
    assert watch.minutes() == 3
    watch.start()
    seconds += 30
    watch.pause()
    assert watch.minutes() == 3.5
