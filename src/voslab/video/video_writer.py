"""Writes frames as video: H.264, or ProRes and VP9 with transparency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from voslab.core import WriteError, atomic_path
from voslab.video.audio import AudioCopy

_TICKS, _MOST_TICKS = 90_000, 1_000_000
"""Time units per second of frames with time stamps, and how many of them make a frame rate exact."""


@dataclass(frozen=True)
class VideoFormat:
    """A codec and a container.

    Attributes:
        codec: encoder of FFmpeg.
        container: format of FFmpeg.
        pixels: pixel format.
        channels: 3 for RGB frames, 4 for RGBA.
        options: options of the encoder.
    """

    codec: str
    container: str
    pixels: str
    channels: int = 3
    options: Mapping[str, str] = field(default_factory=dict)


H264 = VideoFormat("libx264", "mp4", "yuv420p", options={"preset": "veryfast", "crf": "18"})
"""H.264 in mp4."""
PRORES = VideoFormat("prores_ks", "mov", "yuva444p10le", 4, {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"})
"""ProRes 4444 with transparency in mov, for editors."""
# libvpx accepts alpha without alternate reference frames only.
VP9 = VideoFormat("libvpx-vp9", "webm", "yuva420p", 4, {"crf": "18", "b": "0", "cpu-used": "5", "auto-alt-ref": "0"})
"""VP9 with transparency in webm, for browsers."""


class VideoWriter:
    """Context manager that writes a video; mp4 and mov have their index at the start.

    The file appears under its name when the block ends without an error; after an error it is removed. An odd height
    or width is padded to even by repeating the last row or column, because yuv420p has no odd sizes.

    Args:
        path: file to write.
        rate: frames per second, stored exactly if the frames have no time stamps.
        size: H, W of every frame.
        options: options of the encoder instead of those of the format.
        video_format: codec and container.
        audio: video file whose audio is copied; None for none. Its frames are written with their time stamps.

    Raises:
        WriteError: on entry, in `write` or on exit, if the file cannot be written, the disk is full, the codec fails,
            a frame has another size, or there is no frame.
    """

    def __init__(
        self,
        path: Path | str,
        rate: Fraction | int,
        size: tuple[int, int],
        options: dict[str, str] | None = None,
        video_format: VideoFormat = H264,
        audio: Path | None = None,
    ) -> None:
        self._path, self._rate, self._size = Path(path), Fraction(rate), size
        self._format, self._audio_source = video_format, audio
        self._encoder = _encoder(self._path, self._rate, size, options, video_format)
        self._reformatter = VideoReformatter()
        self._audio: AudioCopy | None = None
        self._clock = _Clock(self._rate)
        self._time_base: Fraction | None = None
        self._written = 0

    def __enter__(self) -> Self:
        self._container, self._stream = self._encoder.__enter__()
        return self

    def write(self, image: NDArray[np.uint8], time: Fraction | None = None) -> None:
        """Append a frame.

        Args:
            image: H W 3, RGB; H W 4, RGBA, for formats with transparency.
            time: presentation time in the source, in seconds. The first frame is shown at 0. None, or a time that is
                not after that of the last frame: a frame's duration later.

        Raises:
            WriteError: see `VideoWriter`.
        """
        height, width = self._size
        shape = (height, width, self._format.channels)
        if image.shape != shape:
            raise WriteError(f"{self._path}: frame {self._written} has shape {image.shape}, not {shape}")
        if height % 2 or width % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE).astype(np.uint8)
        with _failures(self._path):
            if not self._written and time is not None:
                self._start_clock()
            position, duration = self._clock.advance(time)
            frame = self._reformatter.reformat(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgba" if shape[2] == 4 else "rgb24"),
                format=self._format.pixels,
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
            )
            base = self._time_base or 1 / self._rate
            frame.pts, frame.duration, frame.time_base = round(position / base), round(duration / base), base
            self._container.mux(self._stream.encode(frame))
            if self._audio is not None and not self._clock.jumped:
                self._audio.copy_until(self._clock.origin + position + duration, self._clock.origin)
        self._written += 1

    def _start_clock(self) -> None:
        """Store the frames' own times instead of their numbers, and open the audio that belongs to them."""
        ticks = lcm(self._rate.numerator, _TICKS)
        self._time_base = Fraction(1, ticks if ticks <= _MOST_TICKS else _TICKS)
        self._stream.codec_context.time_base = self._time_base
        if self._audio_source is not None:
            self._audio = AudioCopy(self._audio_source, self._path, self._container)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._audio is not None:
            self._audio.close()
        if kind is None and self._written:
            self._encoder.__exit__(None, None, None)
            return
        # The error of the block is not passed on, because `atomic_path` would report an OSError as a failed write.
        no_frame = WriteError(f"{self._path}: no frame was written")
        with suppress(WriteError):
            self._encoder.__exit__(WriteError, no_frame, None)
        if kind is None:
            raise no_frame


class _Clock:
    """Maps times of the source to times in the file, which start at 0 and increase."""

    def __init__(self, rate: Fraction) -> None:
        self._nominal = self._step = 1 / rate if rate > 0 else Fraction(1)
        self._last: Fraction | None = None
        self.origin = Fraction(0)
        self.jumped = False

    def advance(self, time: Fraction | None) -> tuple[Fraction, Fraction]:
        """Return the position of the next frame, and its duration: at most the distance from the frame before."""
        following = Fraction(0) if self._last is None else self._last + self._step
        if self._last is None and time is not None:
            self.origin = time
        position = following if time is None else time - self.origin
        if self._last is not None and position <= self._last:
            # The time stamps jump back: from here on, they count from this frame.
            self.jumped, position = True, following
            self.origin = self.origin if time is None else time - position
        if self._last is not None:
            self._step = min(self._nominal, position - self._last)
        self._last = position
        return position, self._step


@contextmanager
def _encoder(
    path: Path, rate: Fraction, size: tuple[int, int], options: dict[str, str] | None, video_format: VideoFormat
) -> Iterator[tuple[OutputContainer, VideoStream]]:
    muxer = {} if video_format.container == "webm" else {"movflags": "faststart"}
    with (
        atomic_path(path) as temporary,
        _failures(path),
        av.open(f"file:{temporary}", "w", format=video_format.container, options=muxer) as container,
    ):
        stream = container.add_stream(video_format.codec, rate=rate, options=options or dict(video_format.options))
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = size[0] + size[0] % 2, size[1] + size[1] % 2
        stream.pix_fmt = video_format.pixels
        stream.codec_context.colorspace = Colorspace.ITU601
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.flags |= Flags.frame_duration
        yield container, stream
        container.mux(stream.encode(None))


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, ArithmeticError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WriteError(f"{path}: the video cannot be written ({reason})") from error
