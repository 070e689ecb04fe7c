"""Serves the frames of a video as JPEG, from a cache of bounded size."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import RawFrame, VideoError

_QUALITY = 88
_SKIPPED = 8
"""Frames that are read and dropped before a later one is looked for from its key frame on."""
_RELEASED = 1 << 28
"""Bytes of frames after which memory is returned to the system."""


class FrameReader:
    """Reads single frames; frames in order are read on from the last one, and not from their key frame each time.

    Args:
        frames: Yields the frames from a number on, in order.

    Example:
        >>> import numpy as np
        >>> from voslab.core import RawFrame
        >>> reader = FrameReader(lambda start: (RawFrame(i, np.full((1, 1, 3), i, np.uint8)) for i in range(start, 9)))
        >>> [int(reader.read(frame).max()) for frame in (3, 4, 1)]
        [3, 4, 1]
    """

    def __init__(self, frames: Callable[[int], Iterator[RawFrame]]) -> None:
        self._frames = frames
        self._iterator: Iterator[RawFrame] = iter(())
        self._last: RawFrame | None = None
        self._bytes = 0  # read since memory was released
        self._lock = threading.Lock()

    def read(self, frame: int) -> NDArray[np.uint8]:
        """Read a frame.

        Args:
            frame: Frame number, from 0.

        Returns:
            H W 3 uint8, RGB.

        Raises:
            DataError: If there is no such frame.
            VideoError: If it cannot be decoded.
        """
        with self._lock:
            if self._last is None or self._last.index != frame:
                ahead = self._last is not None and 0 <= frame - self._last.index <= _SKIPPED
                if not ahead:
                    self._iterator = self._frames(frame)
                self._last = None  # after an error, the file is opened again
                self._last = next((each for each in self._iterator if each.index >= frame), None)
            if self._last is None:
                raise VideoError(f"frame {frame} cannot be decoded: the video ends before it")
            self._bytes += self._last.image.nbytes
            if self._bytes > _RELEASED:
                self._bytes = 0
                _release_memory()
            return self._last.image


def _release_memory() -> None:
    """Free decoded frames, whose side data refer to them, and return their memory to the system."""
    gc.collect()
    with suppress(OSError, AttributeError):  # without glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class FrameCache:
    """Encodes frames as JPEG when they are asked for, and keeps the latest.

    Args:
        read: Reads an image by frame number, H W 3 uint8, RGB.
        longest: Longest side of the JPEGs in pixels; larger frames are scaled down.
        capacity: Bytes of JPEGs that are kept.
    """

    def __init__(self, read: Callable[[int], NDArray[np.uint8]], longest: int = 1920, capacity: int = 1 << 27) -> None:
        self._read = read
        self._longest = longest
        self._capacity = capacity
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._bytes

    def jpeg(self, frame: int) -> bytes:
        """Return a frame as JPEG.

        Args:
            frame: Frame number, from 0.

        Raises:
            DataError: If there is no such frame.
            VideoError: If it cannot be decoded.
        """
        with self._lock:
            if frame in self._kept:
                self._kept.move_to_end(frame)
                return self._kept[frame]
        content = self._encode(self._read(frame))
        with self._lock:
            if frame not in self._kept:
                self._kept[frame] = content
                self._bytes += len(content)
            while self._bytes > self._capacity and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return content

    def _encode(self, image: NDArray[np.uint8]) -> bytes:
        factor = self._longest / max(image.shape[:2])
        if factor < 1:
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA).astype(np.uint8)
        _, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        return content.tobytes()
