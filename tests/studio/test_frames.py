from __future__ import annotations

import weakref
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from voslab.core import RawFrame, VideoError
from voslab.studio.frames import FrameCache, FrameReader

COUNT = 10_000


class Source:
    """A long video that counts where it was opened, how many frames were decoded, and how many exist at once."""

    def __init__(self, end: int = COUNT, size: tuple[int, int] = (48, 48)) -> None:
        self.opened: list[int] = []
        self.decoded = self.alive = self.most_alive = 0
        self.end, self.size = end, size

    def frames(self, start: int) -> Iterator[RawFrame]:
        self.opened.append(start)
        for index in range(start, self.end):
            image = np.full((*self.size, 3), index % 251, np.uint8)
            weakref.finalize(image, self.forget)
            self.decoded += 1
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
            yield RawFrame(index, image)

    def forget(self) -> None:
        self.alive -= 1


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


@pytest.mark.parametrize(("count", "size"), [(COUNT, (48, 48)), (8, (2160, 3840))], ids=["long", "4K"])
def test_a_video_is_played_with_bounded_memory(count: int, size: tuple[int, int]) -> None:
    source = Source(count, size)
    cache = FrameCache(FrameReader(source.frames).read, capacity=100_000)
    for frame in range(count):
        image = cv2.imdecode(np.frombuffer(cache.jpeg(frame), np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
        assert image.shape[1] * 8 <= 1920
        assert cache.size <= 100_000
    assert (source.opened, source.decoded) == ([0], count)
    assert source.most_alive <= 3
