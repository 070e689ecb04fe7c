"""The stopwatch counts what it is told to, across pauses and resumes."""

from __future__ import annotations

from voslab.training.cost import Cost


def test_only_what_lies_between_going_on_and_a_pause_counts() -> None:
    seconds = 1000.0
    cost = Cost(60, lambda: seconds)
    assert cost.minutes() == 1
    seconds = 2000
    cost.go_on()
    seconds += 120
    assert cost.minutes() == 3
    cost.go_on()
    cost.pause()
    seconds += 5000
    cost.pause()
    assert cost.minutes() == 3
    cost.go_on()
    seconds += 30
    cost.pause()
    assert cost.minutes() == 3.5
