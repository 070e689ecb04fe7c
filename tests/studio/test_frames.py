from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from voslab.core import RawFrame, VideoError
from voslab.studio.frames import FrameCache, FrameReader

COUNT = 10_000
SIDE = 48


class Source:
    """A long video that counts where it was opened, and how many frames were decoded."""

    def __init__(self, end: int = COUNT) -> None:
        self.opened: list[int] = []
        self.decoded = 0
        self.end = end

    def frames(self, start: int) -> Iterator[RawFrame]:
        self.opened.append(start)
        for index in range(start, self.end):
            self.decoded += 1
            yield RawFrame(index, np.full((SIDE, SIDE, 3), index % 251, np.uint8))


def test_frames_in_order_are_read_on() -> None:
    source = Source()
    reader = FrameReader(source.frames)
    for frame in (5, 6, 6, 7, 10):
        assert reader.read(frame).max() == frame
    assert source.opened == [5]
    assert source.decoded == 6
    assert reader.read(9).max() == 9
    assert reader.read(900).max() == 900 % 251
    assert source.opened == [5, 9, 900]
    assert source.decoded == 8  # the frames between are not decoded


def test_a_video_that_ends_early_is_one_line_and_can_be_read_again() -> None:
    source = Source(end=3)
    reader = FrameReader(source.frames)
    reader.read(1)
    with pytest.raises(VideoError, match="frame 3 cannot be decoded"):
        reader.read(3)
    assert reader.read(2).max() == 2


def test_a_long_video_is_played_from_a_cache_of_bounded_size() -> None:
    source = Source()
    cache = FrameCache(FrameReader(source.frames).read, capacity=100_000)
    for frame in range(COUNT):
        cache.jpeg(frame)
        assert cache.size <= 100_000
    assert (source.opened, source.decoded) == ([0], COUNT)
