"""Writes masks as PNG and frames as H.264 video, and draws objects over an image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from voslab.core import DataError, WriteError, atomic_path
from voslab.video.palette import colour, palette


def write_png(path: Path | str, image: NDArray[np.uint8]) -> None:
    """Write an image as PNG, atomically and compressed lightly.

    Args:
        path: file to write.
        image: H W grey, H W 3 RGB or H W 4 RGBA.

    Raises:
        WriteError: if the file cannot be written.
    """
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG", compress_level=1)


def write_mask(path: Path | str, ids: NDArray[np.integer]) -> None:
    """Write a label map as PNG, atomically: with the DAVIS palette up to id 255, as 16-bit grey up to 65535.

    Args:
        path: file to write.
        ids: H W, 0 for background.

    Raises:
        DataError: if an id is negative or above 65535.
        WriteError: if the file cannot be written.
    """
    low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
    if low < 0 or high > 65535:
        raise DataError(f"{path}: id {low if low < 0 else high} does not fit into a mask file (0 to 65535)")
    image = Image.fromarray(ids.astype(np.uint8 if high < 256 else np.uint16))
    if high < 256:
        image.putpalette(palette().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def overlay(image: NDArray[np.uint8], ids: NDArray[np.integer], alpha: float = 0.5) -> NDArray[np.uint8]:
    """Draw objects over an image: blended colours inside, and a white line along the edge.

    Args:
        image: H W 3, RGB; not changed.
        ids: H W, non-negative, 0 for background.
        alpha: weight of the colours, 0 to 1. The line is always opaque.

    Returns:
        a new image H W 3.
    """
    inside = ids != 0
    mixed = cv2.addWeighted(image, 1 - alpha, colour(ids), alpha, 0)
    edge = np.zeros_like(inside)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    drawn = np.where(inside[..., None], mixed, image)
    drawn[edge & inside] = 255
    return drawn


class VideoWriter:
    """Context manager that writes an H.264 mp4 (yuv420p, index at the start).

    The file appears under its name when the block ends without an error; after an error it is removed. An odd height
    or width is padded to even by repeating the last row or column, because yuv420p has no odd sizes.

    Args:
        path: file to write.
        rate: frames per second, stored exactly.
        size: H, W of every frame.
        options: options of libx264.

    Raises:
        WriteError: on entry, in `write` or on exit, if the file cannot be written, the disk is full, the codec fails,
            a frame has another size, or there is no frame.
    """

    def __init__(
        self, path: Path | str, rate: Fraction | int, size: tuple[int, int], options: dict[str, str] | None = None
    ) -> None:
        self._path, self._rate, self._size = Path(path), Fraction(rate), size
        self._encoder = _encoder(self._path, self._rate, size, options or {"preset": "veryfast", "crf": "18"})
        self._reformatter = VideoReformatter()
        self._written = 0

    def __enter__(self) -> Self:
        self._container, self._stream = self._encoder.__enter__()
        return self

    def write(self, image: NDArray[np.uint8]) -> None:
        """Append a frame H W 3, RGB.

        Raises:
            WriteError: see `VideoWriter`.
        """
        height, width = self._size
        if image.shape != (height, width, 3):
            raise WriteError(f"{self._path}: frame {self._written} has shape {image.shape}, not {(height, width, 3)}")
        if height % 2 or width % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE).astype(np.uint8)
        with _failures(self._path):
            frame = self._reformatter.reformat(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts, frame.time_base = self._written, 1 / self._rate
            self._container.mux(self._stream.encode(frame))
        self._written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._written:
            self._encoder.__exit__(None, None, None)
            return
        # The error of the block is not passed on, because `atomic_path` would report an OSError as a failed write.
        no_frame = WriteError(f"{self._path}: no frame was written")
        with suppress(WriteError):
            self._encoder.__exit__(WriteError, no_frame, None)
        if kind is None:
            raise no_frame


@contextmanager
def _encoder(
    path: Path, rate: Fraction, size: tuple[int, int], options: dict[str, str]
) -> Iterator[tuple[OutputContainer, VideoStream]]:
    with (
        atomic_path(path) as temporary,
        _failures(path),
        av.open(f"file:{temporary}", "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = Colorspace.ITU601
        stream.codec_context.color_range = ColorRange.MPEG
        yield container, stream
        container.mux(stream.encode(None))


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, ArithmeticError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WriteError(f"{path}: the video cannot be written ({reason})") from error
