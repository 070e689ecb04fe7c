from __future__ import annotations

import pytest

from voslab.core import ConfigError
from voslab.engine.positions import find_frame

SECONDS = [0.0, 0.04, 0.08, 100.0, 100.04]


@pytest.mark.parametrize(
    ("value", "frame"),
    [
        (3, 3),
        ("3", 3),
        (None, None),
        ("0s", 0),
        ("0.05s", 1),
        ("0.08 s", 2),
        ("99.9s", 2),
        ("1:40", 3),
        ("00:01:40.04", 4),
    ],
)
def test_a_time_is_the_frame_on_the_screen(value: object, frame: int | None) -> None:
    assert find_frame("start", value, SECONDS) == frame


@pytest.mark.parametrize("value", [-1, 1.5, True, "x", "12.5", "1:2:3:4", "-3s", ""])
def test_other_values_are_refused_with_a_way_out(value: object) -> None:
    with pytest.raises(ConfigError, match=r"start=.*: give a frame number from 0 on, or a time such as 12\.5s"):
        find_frame("start", value, SECONDS)


def test_times_need_a_source_with_times() -> None:
    with pytest.raises(ConfigError, match="start=2s: this source has no times; give a frame number"):
        find_frame("start", "2s", None)
    with pytest.raises(ConfigError, match=r"start=0:02:00: the last frame of the video is at 100\.04 s"):
        find_frame("start", "0:02:00", SECONDS)
    assert find_frame("end", "0:02:00", SECONDS) == 4
