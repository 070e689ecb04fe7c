"""Decodes a video file in presentation order; every kind of damage becomes one `VideoError`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from voslab.core import VideoError

DEFAULT_RATE = Fraction(24)
"""Frames per second of sources that do not say."""

BOUNDS = {"max_pixels": "100000000"}
"""Options of every decoder: a damaged header may ask for frames of any size."""
# A play list or a concat script could name other files, and FFmpeg "plays" text and single images too.
_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,ivf,flv,asf,ogg,gif,mxf,yuv4mpegpipe"
# PyAV's own errors are `FFmpegError`; the others leak from its parsing of damaged headers.
_DAMAGE = (av.FFmpegError, ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Header:
    """What a file promises.

    Attributes:
        rate: frames per second, on average.
        promised: number of frames that should come, 0 where the container does not count them.
        count: the same, estimated from the duration if need be; None if that is unknown as well.
        seconds: where the video should end; None if the container does not say.
    """

    rate: Fraction
    promised: int
    count: int | None
    seconds: float | None = None

    def missing(self, frames: int, last: float | None) -> str | None:
        """What is not there of what was promised, in words; None: nothing.

        Args:
            frames: how many came.
            last: seconds at which the last of them is shown, where that is known.
        """
        if self.promised:
            short = frames < self.promised
            return f"only {frames} of {self.promised} frames could be decoded" if short else None
        # The last frame may be shown for a while.
        if last is not None and self.seconds is not None and last + 4 / self.rate < 0.9 * self.seconds:
            return f"only {frames} frames could be decoded, up to {last:.2f} s of {self.seconds:.2f} s"
        return None


def read_header(path: Path) -> Header:
    """Open a file and close it again. Raises `VideoError` like `decoded_frames`."""
    with readable(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate
        rate = rate if rate and rate > 0 else DEFAULT_RATE
        if stream.duration and stream.time_base:
            estimate = round(stream.duration * stream.time_base * rate)
        else:
            estimate = round(Fraction(container.duration or 0, av.time_base) * rate)
        # An edit list may hide stored frames, which the duration knows and the number of frames does not.
        promised = max(0, min(stream.frames, estimate) if estimate > 0 else stream.frames)
        count = promised or max(0, estimate) or None
        # In AVI, a frame that is shown for longer counts as several.
        return Header(rate, 0 if container.format.name == "avi" else promised, count, _seconds(container, stream))


def _seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Where the video should end, by its own duration, which Matroska writes as a tag; of a file with nothing else in
    it, by the file's."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if found := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "")):
        return 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3])
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else None


def decoded_frames(path: Path, **options: str) -> Iterator[av.VideoFrame]:
    """Yield the frames of the best video stream in presentation order.

    Frames count from 0 in this order, whatever their time stamps (the frame rate may vary). Memory is bounded by the
    codec's own delay.

    Args:
        path: a video file.
        options: options of the decoder, such as `flags2="+export_mvs"`.

    Raises:
        VideoError: not a video, no video stream, no frame, or damaged; then after all frames before the damage.
    """
    index = 0
    with readable(path) as (container, stream):
        stream.codec_context.options = {**BOUNDS, **options}
        stream.thread_type = "SLICE"  # frame threads lose side data
        frames = container.decode(stream)
        while True:
            with damage_at(path, index):
                frame = next(frames, None)
            if frame is None:
                break
            yield frame
            index += 1
    if index == 0:
        raise VideoError(f"{path}: no frame can be decoded; damaged, or empty")


@contextmanager
def damage_at(path: Path, index: int) -> Iterator[None]:
    """Whatever FFmpeg has against a frame becomes a `VideoError` that names it."""
    try:
        yield
    except _DAMAGE as error:
        raise VideoError(f"{path}: damaged, frame {index} cannot be decoded ({_reason(error)})") from error


def to_image(frame: av.VideoFrame, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """The frame as an upright H W 3 RGB array of its own; colour space, range and bit depth as the frame declares."""
    image: NDArray[np.uint8] = np.asarray(reformatter.reformat(frame, format="rgb24").to_ndarray(), np.uint8)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return image
    # Fixed-point rows of an affine map: x' = a x + c y, y' = b x + d y. Only quarter turns and mirrors are followed.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


@contextmanager
def readable(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file at its best video stream; what FFmpeg has against it becomes a `VideoError`."""
    if not path.is_file():
        raise VideoError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        # `file:` keeps names with a colon from being read as another protocol.
        with av.open(f"file:{path}", metadata_errors="ignore", options={"format_whitelist": _FORMATS}) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream):
                raise VideoError(f"{path}: no video stream in this file")
            if getattr(stream, "codec_context", None) is None:
                raise VideoError(f"{path}: no decoder is known for this video stream")
            yield container, stream
    except _DAMAGE as error:
        raise VideoError(f"{path}: not a video, or a damaged one ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, av.FFmpegError) else str(error)
    return " ".join(str(text).split()) or type(error).__name__
