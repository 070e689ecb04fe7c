"""Reads positions in a video: frame numbers and times."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from voslab.core import ConfigError

_TIME = re.compile(r"(?:(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+(?:\.\d+)?)|(?P<seconds>\d+(?:\.\d+)?) ?s)")


def parse_position(name: str, value: object) -> int | float | None:
    """Parse a frame number or a time.

    Args:
        name: name of the option, for messages.
        value: a frame number such as `300`, counted from 0; a time such as `12.5s`, `1:30` or `00:01:30`; or None.

    Returns:
        The frame number as an integer, or the time in seconds as a float.

    Raises:
        ConfigError: If it is neither.

    Example:
        >>> parse_position("start", 300), parse_position("start", "12.5s"), parse_position("end", "00:01:30")
        (300, 12.5, 90.0)
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    if isinstance(value, str):
        if value.isdecimal():
            return int(value)
        if match := _TIME.fullmatch(value):
            if match["seconds"]:
                return float(match["seconds"])
            return 3600 * int(match["h"] or 0) + 60 * int(match["m"]) + float(match["s"])
    raise ConfigError(f"{name}={value}: give a frame number from 0 on, or a time such as 12.5s or 00:01:30")


class _Timed(Protocol):
    """A source whose frames have times."""

    @property
    def seconds(self) -> Sequence[float] | None:
        """Presentation time of each frame from the first one on; None if the source has no times."""
        ...


def find_part(start: object, end: object, source: _Timed | None) -> tuple[int, int | None]:
    """Return the first and the last frame of a part of a video. The times of a source are read only if they are needed.

    Args:
        start: see `parse_position`; None: the first frame.
        end: see `parse_position`; None: the last frame of the video.
        source: the video; None for streams, which have no times.

    Returns:
        Presentation indices; the last one is None if `end` is.

    Raises:
        ConfigError: see `find_frame`.
    """
    timed = any(isinstance(parse_position(name, value), float) for name, value in (("start", start), ("end", end)))
    seconds = source.seconds if timed and source is not None else None
    return find_frame("start", start, seconds) or 0, find_frame("end", end, seconds)


def find_frame(name: str, value: object, seconds: Sequence[float] | None) -> int | None:
    """Return the frame that a position stands for: at a time, the one that is on the screen.

    Args:
        name: name of the option, for messages.
        value: see `parse_position`.
        seconds: presentation time of each frame from the first one on; None if the source has no times.

    Returns:
        Presentation index; None if `value` is None.

    Raises:
        ConfigError: If the position is malformed, or a time in a source without times or after its last frame.

    Example:
        >>> find_frame("start", "0.5s", [0.0, 0.4, 0.8]), find_frame("start", 2, None)
        (1, 2)
    """
    position = parse_position(name, value)
    if not isinstance(position, float):
        return position
    if seconds is None:
        raise ConfigError(f"{name}={value}: this source has no times; give a frame number")
    if name == "start" and position > seconds[-1]:
        raise ConfigError(f"{name}={value}: the last frame of the video is at {seconds[-1]:.2f} s")
    return max(0, bisect_right(seconds, position + 1e-6) - 1)
