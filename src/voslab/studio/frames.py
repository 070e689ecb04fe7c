"""Serves the frames of a video as JPEG, from a cache of bounded size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

_QUALITY = 88


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
