from __future__ import annotations

import pytest

from voslab.core import ConfigError
from voslab.engine.positions import find_frame, find_part

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


class Source:
    """Source that counts how often its times are read."""

    read = 0

    @property
    def seconds(self) -> list[float]:
        self.read += 1
        return SECONDS


def test_times_of_a_source_are_read_only_if_they_are_needed() -> None:
    source = Source()
    assert find_part(None, None, source) == (0, None)
    assert find_part(1, "3", source) == (1, 3)
    assert source.read == 0
    assert find_part("0.05s", 4, source) == (1, 4)
    assert source.read == 1
    with pytest.raises(ConfigError, match="end=2s: this source has no times"):
        find_part(None, "2s", None)
