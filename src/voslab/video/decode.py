"""Decodes a video file in presentation order and raises a `VideoError` for any kind of damage."""

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
from voslab.video.stream import Stream

DEFAULT_RATE = Fraction(24)
"""Frames per second of sources without a frame rate."""

BOUNDS = {"max_pixels": "100000000"}
"""Options of every decoder. A damaged header may declare frames of any size."""
# Play lists and concat scripts could name other files. FFmpeg also decodes text and single images.
_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,ivf,flv,asf,ogg,gif,mxf,yuv4mpegpipe"
# PyAV raises `FFmpegError`. The other errors come from its parsing of damaged headers.
_DAMAGE = (av.FFmpegError, ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Header:
    """Rate, length and duration that a file declares.

    Attributes:
        rate: average frames per second.
        declared_frames: number of frames that the container declares; 0 if it does not.
        count: `declared_frames`, or an estimate from the duration; None if neither is known.
        seconds: declared end of the video; None if unknown.
    """

    rate: Fraction
    declared_frames: int
    count: int | None
    seconds: float | None = None

    def missing(self, frames: int, last: Fraction | float | None) -> str | None:
        """Describe which declared frames are missing.

        Args:
            frames: number of decoded frames.
            last: presentation time of the last one in seconds; None if unknown.

        Returns:
            a description for a message; None if no frame is missing.
        """
        if self.declared_frames:
            short = frames < self.declared_frames
            return f"only {frames} of {self.declared_frames} frames could be decoded" if short else None
        # The last frame may have a long duration.
        if last is not None and self.seconds is not None and last + 4 / self.rate < 0.9 * self.seconds:
            return f"only {frames} frames could be decoded, up to {float(last):.2f} s of {self.seconds:.2f} s"
        return None


def read_header(path: Path | Stream) -> Header:
    """Read what a video file declares, without decoding it.

    Args:
        path: a video file or a stream.

    Returns:
        its frame rate, number of frames and duration.

    Raises:
        VideoError: if the file is not a video or has no video stream.
    """
    if isinstance(path, Stream):
        rate = path.video.average_rate or path.video.guessed_rate
        return Header(rate if rate and rate > 0 else DEFAULT_RATE, 0, path.count)
    with readable(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate
        rate = rate if rate and rate > 0 else DEFAULT_RATE
        if stream.duration and stream.time_base:
            estimate = round(stream.duration * stream.time_base * rate)
        else:
            estimate = round(Fraction(container.duration or 0, av.time_base) * rate)
        # An edit list may hide stored frames. The duration excludes them, the number of frames does not.
        declared = max(0, min(stream.frames, estimate) if estimate > 0 else stream.frames)
        count = declared or max(0, estimate) or None
        # AVI counts a frame with a long duration several times.
        return Header(rate, 0 if container.format.name == "avi" else declared, count, _seconds(container, stream))


def _seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """Declared end of the stream: its duration, Matroska's tag, or the file's duration if it has no other stream."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if match := re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", "")):
        return 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else None


def decoded_frames(
    path: Path | Stream, seek: int | None = None, first: int = 0, **options: str
) -> Iterator[av.VideoFrame]:
    """Yield the frames of the best video stream in presentation order.

    The frame rate may vary. No more frames are in memory than the codec delays.

    Args:
        path: a video file.
        seek: time stamp of the key frame to start at, in units of the stream; None: the beginning of the file.
        first: presentation index of that frame, for messages.
        options: options of the decoder, such as `flags2="+export_mvs"`.

    Yields:
        PyAV frames.

    Raises:
        VideoError: if the file is not a video, has no video stream or no frame, or is damaged; the frames before the
            damage are yielded first.
    """
    index = first
    with readable(path) as (container, stream):
        stream.codec_context.options = {**BOUNDS, **options}
        stream.thread_type = "SLICE"  # frame threads lose side data
        if seek is not None:
            container.seek(seek, stream=stream)
        frames = path.decoded() if isinstance(path, Stream) else container.decode(stream)
        while True:
            with damage_at(path, index):
                frame = next(frames, None)
            if frame is None:
                break
            yield frame
            index += 1
    if index == 0 and seek is None:
        raise VideoError(f"{path}: no frame can be decoded; damaged, or empty")


@contextmanager
def damage_at(path: Path | Stream, index: int) -> Iterator[None]:
    """Turn decoder errors inside the block into a `VideoError` that names the frame.

    Args:
        path: file to name in errors.
        index: presentation index of the frame.

    Raises:
        VideoError: if the block raises an error of FFmpeg or PyAV.
    """
    try:
        yield
    except _DAMAGE as error:
        raise VideoError(f"{path}: damaged, frame {index} cannot be decoded ({_reason(error)})") from error


def to_image(frame: av.VideoFrame, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """Convert a decoded frame to an upright RGB image, with the colour space, range and bit depth that it declares.

    Args:
        frame: frame of PyAV.
        reformatter: converter, reused for all frames of a video.

    Returns:
        H W 3 uint8, a copy.
    """
    image: NDArray[np.uint8] = np.asarray(reformatter.reformat(frame, format="rgb24").to_ndarray(), np.uint8)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return image
    # Fixed-point rows of an affine map: x' = a x + c y, y' = b x + d y. Only quarter turns and mirrors are applied.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(b) > abs(a):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def presentation_time(item: av.VideoFrame | av.Packet) -> Fraction | None:
    """Return the time stamp of a frame or packet in seconds; None if it has none.

    Args:
        item: frame, or packet, which may have a decoding time only.
    """
    stamp = item.dts if item.pts is None else item.pts
    return None if stamp is None or not item.time_base else stamp * item.time_base


def presentation_times(path: Path) -> list[Fraction]:
    """Read the time stamps of a video file without decoding it.

    Args:
        path: a video file.

    Returns:
        times of its frames in seconds, ascending.

    Raises:
        VideoError: if the file is not a video or is damaged.
    """
    with readable(path) as (container, stream):
        packets = (packet for packet in container.demux(stream) if packet.size and not packet.is_discard)
        return sorted(time for packet in packets if (time := presentation_time(packet)) is not None)


@contextmanager
def readable(path: Path | Stream) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file at its best video stream, until the block ends.

    Args:
        path: a video file, or a stream that is open already.

    Yields:
        the container and the stream.

    Raises:
        VideoError: if the file does not exist, is not a video, has no video stream, or is damaged.
    """
    if isinstance(path, Stream):
        with path.reading() as opened:
            yield opened
        return
    if not path.is_file():
        raise VideoError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        # Without `file:`, FFmpeg would parse a name with a colon as another protocol.
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
