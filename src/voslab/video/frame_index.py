"""Indexes a video file by its packets, so that decoding can start at any key frame."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av

from voslab.video.decode import damage_at, decoded_frames, readable


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A frame at which decoding can start.

    Attributes:
        index: presentation index.
        seek: time stamp to seek to, in units of the stream; None: the beginning of the file.
        stamp: presentation time stamp, in the same units.
    """

    index: int
    seek: int | None
    stamp: int | None = None


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """Frames of a video file in presentation order.

    Attributes:
        count: number of frames.
        keys: key frames in presentation order; the first one is frame 0.
        numbers: presentation index by time stamp, in units of the stream; empty if the file has no usable time stamps.
        seconds: presentation time of each frame from the first one on, in seconds; None if the file has none.
    """

    count: int
    keys: tuple[KeyFrame, ...]
    numbers: dict[int, int]
    seconds: tuple[float, ...] | None

    def key_before(self, index: int) -> KeyFrame:
        """Return the last key frame at or before a frame."""
        return self.keys[bisect_right(self.keys, index, key=lambda key: key.index) - 1]


def index_packets(path: Path) -> FrameIndex | None:
    """Index a file by the time stamps of its packets, without decoding it.

    Args:
        path: a video file.

    Returns:
        its frames and key frames; None if the time stamps are not usable, as in AVI files.

    Raises:
        VideoError: if the file is not a video or is damaged.
    """
    stamps: list[int | None] = []
    seeks: dict[int, int] = {}
    with readable(path) as (container, stream):
        base, packets = stream.time_base, container.demux(stream)
        while True:
            with damage_at(path, len(stamps)):
                packet = next(packets, None)
            if packet is None or not packet.size:
                break
            if packet.is_discard:
                continue
            stamps.append(packet.pts)
            if packet.is_keyframe and packet.pts is not None:
                seeks[packet.pts] = packet.pts if packet.dts is None else min(packet.pts, packet.dts)
    ordered = sorted(stamp for stamp in stamps if stamp is not None)
    if not ordered or base is None or len(set(ordered)) < len(stamps):
        return None
    numbers = {stamp: number for number, stamp in enumerate(ordered)}
    later = (KeyFrame(numbers[stamp], seek, stamp) for stamp, seek in sorted(seeks.items()) if numbers[stamp] > 0)
    seconds = tuple(float((stamp - ordered[0]) * base) for stamp in ordered)
    return FrameIndex(len(ordered), (KeyFrame(0, None), *later), numbers, seconds)


def frames_between(path: Path, index: FrameIndex, start: int, stop: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode a part of a file, from the key frame before it.

    Args:
        path: the file of the index.
        index: its frames.
        start: presentation index of the first frame.
        stop: end of the part, exclusive.

    Yields:
        presentation index and frame, in presentation order.

    Raises:
        VideoError: if the file is damaged; the frames before the damage are yielded first.
    """
    expected, key = start, index.key_before(start)
    if key.seek is not None:
        for frame in decoded_frames(path, key.seek, key.index):
            number = None if frame.pts is None else index.numbers.get(frame.pts)
            if number is None or number > expected:
                break
            if number == expected:
                yield number, frame
                expected += 1
            if expected == stop:
                return
    # From the beginning, also where the file could not be sought.
    for number, frame in enumerate(decoded_frames(path)):
        if number == expected:
            yield number, frame
            expected += 1
        if expected >= stop:
            return


def count_frames(path: Path) -> FrameIndex:
    """Index a file by decoding it. Its only key frame is the first one.

    Args:
        path: a video file.

    Raises:
        VideoError: if the file is not a video or is damaged.
    """
    times = [frame.time for frame in decoded_frames(path)]
    known = [time for time in times if time is not None]
    seconds = tuple(time - known[0] for time in known) if len(known) == len(times) and known == sorted(known) else None
    return FrameIndex(len(times), (KeyFrame(0, None),), {}, seconds)
