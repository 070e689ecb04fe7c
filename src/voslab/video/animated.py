"""Reads animated PNG and WebP files as videos; FFmpeg reads animated GIF."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from voslab.core import DataError, RawFrame, VideoError
from voslab.video.images import opened_image

_MAX_DURATIONS = 100  # frames whose durations are averaged
_MILLISECONDS = 1000


def is_image(path: Path) -> bool:
    """Return whether a file has the signature of an image format other than GIF.

    Args:
        path: The file.
    """
    if not path.is_file():  # opening a pipe would wait for its writer
        return False
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    return start.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def read_animation(path: Path) -> tuple[tuple[int, int], int, Fraction | None]:
    """Read size, length and frame rate of an animation.

    Args:
        path: PNG or WebP file.

    Returns:
        H, W; the number of frames; and frames per second, None if the file has no durations.

    Raises:
        VideoError: If the file is a still image or damaged.
    """
    try:
        with opened_image(path) as image:
            count = int(getattr(image, "n_frames", 1))
            if count < 2:
                raise VideoError(
                    f"{path}: a still image ({image.format}), not a video; a video of images is a folder, video=FOLDER"
                )
            durations = []
            for index in range(min(count, _MAX_DURATIONS)):
                image.seek(index)
                image.load()
                durations.append(float(image.info.get("duration") or 0))
            total = Fraction(sum(durations)).limit_denominator(_MILLISECONDS)
            rate = len(durations) * _MILLISECONDS / total if total > 0 else None
            return (image.height, image.width), count, rate
    except DataError as error:
        raise VideoError(str(error)) from error


def animation_frames(path: Path) -> Iterator[RawFrame]:
    """Yield the frames of an animation; alpha is dropped.

    Args:
        path: PNG or WebP file.

    Raises:
        VideoError: If the file is damaged; the frames before the damage are yielded first.
    """
    index = 0
    try:
        with opened_image(path) as image:
            for index in range(int(getattr(image, "n_frames", 1))):
                image.seek(index)
                yield RawFrame(index, _rgb(image))
    except DataError as error:
        raise VideoError(f"{path}: frame {index} is damaged ({error})") from error


def _rgb(image: Image.Image) -> np.ndarray:
    return np.array(image.convert("RGBA").convert("RGB"))
