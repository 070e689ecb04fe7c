"""Tests of the stopwatch."""

from __future__ import annotations

from tests.training.small import module
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


def test_validation_is_no_part_of_the_training_time() -> None:
    seconds = 0.0
    trained = module()
    trained.stopwatch = Stopwatch(now=lambda: seconds)
    trained.on_train_start()
    seconds = 60
    trained.on_validation_start()
    seconds = 600
    trained.on_validation_end()
    seconds = 660
    trained.on_train_end()
    assert trained.stopwatch.minutes() == 2
