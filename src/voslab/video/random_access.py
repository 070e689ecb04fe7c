"""Reads any part of a source, and all of it in reverse order with bounded memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from voslab.core import RawFrame, VideoError
from voslab.video.decode import damage_at, presentation_time, to_image
from voslab.video.frame_index import FrameIndex, count_frames, frames_between, index_packets

MEMORY = 1 << 28
"""Bytes of frames that are read ahead to reverse their order."""
_FEWEST = 16
"""Frames that are read at once if they fit; a file of key frames only would be opened for each of them."""


class FrameAccess(Protocol):
    """A source whose frames can be read in any order."""

    @property
    def count(self) -> int:
        """Exact number of frames."""
        ...

    @property
    def seconds(self) -> Sequence[float] | None:
        """Presentation time of each frame from the first one on; None if the source has no times."""
        ...

    def between(self, start: int, stop: int) -> Iterator[RawFrame]:
        """Yield the frames from `start` up to `stop`, exclusive, in presentation order."""
        ...

    def backward(self, last: int) -> Iterator[RawFrame]:
        """Yield the frames from `last` down to the first one."""
        ...


@dataclass(frozen=True)
class ImageAccess:
    """Access to separate images.

    Attributes:
        count: number of images.
        read: reads an image, H W 3 uint8, by index.
    """

    count: int
    read: Callable[[int], NDArray[np.uint8]]
    seconds: None = None

    def between(self, start: int, stop: int) -> Iterator[RawFrame]:
        """See `FrameAccess.between`."""
        return (RawFrame(index, self.read(index)) for index in range(start, min(stop, self.count)))

    def backward(self, last: int) -> Iterator[RawFrame]:
        """See `FrameAccess.backward`."""
        return (RawFrame(index, self.read(index)) for index in range(last, -1, -1))


@dataclass(frozen=True)
class IterableAccess:
    """Access to a source that is read from its beginning each time.

    Attributes:
        name: name of the source, for messages.
        count: number of frames.
        frames: starts an iteration.
    """

    name: str
    count: int
    frames: Callable[[], Iterator[RawFrame]]
    seconds: None = None

    def between(self, start: int, stop: int) -> Iterator[RawFrame]:
        """See `FrameAccess.between`."""
        return islice(self.frames(), start, stop)

    def backward(self, last: int) -> Iterator[RawFrame]:
        """See `FrameAccess.backward`."""
        return in_reverse(self.between, (0,), last, self.name)


@dataclass(frozen=True)
class FileAccess:
    """Access to a video file, from key frame to key frame; the file is indexed once.

    Attributes:
        path: the file.
    """

    path: Path

    @cached_property
    def stamped(self) -> FrameIndex | None:
        """Index by time stamps, which needs no decoding; None if the file has no usable ones."""
        return index_packets(self.path)

    @cached_property
    def index(self) -> FrameIndex:
        """Frames and key frames of the file."""
        return self.stamped or count_frames(self.path)

    @property
    def count(self) -> int:
        """See `FrameAccess.count`."""
        return self.index.count

    @property
    def seconds(self) -> Sequence[float] | None:
        """See `FrameAccess.seconds`."""
        return self.index.seconds

    def between(self, start: int, stop: int) -> Iterator[RawFrame]:
        """See `FrameAccess.between`."""
        reformatter = VideoReformatter()
        for number, frame in frames_between(self.path, self.index, start, stop):
            with damage_at(self.path, number):
                image = to_image(frame, reformatter)
            yield RawFrame(number, image, time=presentation_time(frame))

    def backward(self, last: int) -> Iterator[RawFrame]:
        """See `FrameAccess.backward`."""
        return in_reverse(self.between, [key.index for key in self.index.keys], last, str(self.path))


def in_reverse(
    read: Callable[[int, int], Iterator[RawFrame]], starts: Sequence[int], last: int, name: str
) -> Iterator[RawFrame]:
    """Yield the frames of a source in reverse, one group of frames at a time.

    I- and P-frames, and frames without codec data, come in reverse presentation order. Each is followed by the B-frames
    that are shown after it, in decode order. So B-frames follow the two I- or P-frames around them. Groups of frames
    that do not fit into `MEMORY` are read several times.

    Args:
        read: yields the frames from a start of a group up to an index, exclusive, in decode order.
        starts: presentation indices of the frames at which reading can start, ascending from 0.
        last: presentation index of the last frame to yield.
        name: name of the source, for messages.

    Raises:
        VideoError: if a frame is missing.
    """
    stop = last + 1
    while stop > 0:
        start = starts[bisect_right(starts, max(0, stop - _FEWEST)) - 1]
        group = _last_frames(read(start, stop), start, stop, name)
        first = min(group)
        anchors = sorted(index for index, frame in group.items() if index == first or _is_anchor(frame))
        for anchor, following in zip(reversed(anchors), [stop, *reversed(anchors)], strict=False):
            # Released one by one, so that the next group does not come on top of this one.
            for index in [anchor, *(index for index in group if anchor < index < following)]:
                yield group.pop(index)
        stop = first


def _last_frames(frames: Iterator[RawFrame], start: int, stop: int, name: str) -> dict[int, RawFrame]:
    """Return the last frames of a group that fit into memory, from an I- or P-frame on, in decode order."""
    kept: dict[int, RawFrame] = {}
    seen, first = 0, start
    for frame in frames:
        seen += 1
        if frame.index >= first:  # B-frames may come after an I- or P-frame that is shown after them
            kept[frame.index] = frame
        while len(kept) * _bytes(frame) > MEMORY:
            anchors = sorted(index for index, one in kept.items() if _is_anchor(one))
            if len(anchors) < 2:
                break
            first = anchors[1]
            kept = {index: one for index, one in kept.items() if index >= first}
    if seen < stop - start:
        raise VideoError(f"{name}: only {seen} of the {stop - start} frames from frame {start} on can be decoded")
    return kept


def _is_anchor(frame: RawFrame) -> bool:
    return frame.codec is None or frame.codec.type != "B"


def _bytes(frame: RawFrame) -> int:
    fields = () if frame.codec is None else (frame.codec.motion, frame.codec.references, frame.codec.residual)
    return frame.image.nbytes + sum(field.nbytes for field in fields if field is not None)
