"""Opens cameras, network addresses and pipes as streams, which are read once."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import dropwhile
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from voslab.core import VideoError

PATIENCE = 10.0
"""Seconds that a stream may take to open, and to deliver its next frame."""
_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,ivf,flv,asf,ogg,yuv4mpegpipe,mpjpeg,rtsp,hls"
# Without `file`: a playlist or a redirection must not name files of this machine.
_PROTOCOLS = "http,https,httpproxy,tcp,tls,udp,rtp,rtsp,rtmp,rtmps,crypto"
_CAMERA = re.compile(r"\d{1,3}|/dev/video\d+")
_PIPES = ("-", "pipe:0")


@dataclass
class Stream:
    """An opened stream.

    Attributes:
        address: what the user gave, without a password.
        container: the open input.
        video: its video stream.
        drop: whether frames that arrive too late for the network are dropped.
        paced: whether frames are read no faster than their time stamps, because the sender may be faster.
        frames: number of frames that were read so far.
        dropped: number of them that were dropped.
    """

    address: str
    container: InputContainer
    video: VideoStream
    drop: bool
    paced: bool
    frames: int = 0
    dropped: int = 0
    _used: bool = field(default=False, repr=False)

    def __str__(self) -> str:
        return self.address

    @property
    def size(self) -> tuple[int, int]:
        """H, W of the frames."""
        return self.video.codec_context.height, self.video.codec_context.width

    @property
    def count(self) -> int | None:
        """Number of frames, estimated from the duration; None if the stream has no end."""
        duration = self.container.duration or 0
        rate = self.video.average_rate
        return round(Fraction(duration, av.time_base) * rate) if duration > 0 and rate else None

    @contextmanager
    def reading(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """Read the stream until the block ends, which closes it.

        Yields:
            the container and the video stream.

        Raises:
            VideoError: if it was read before.
        """
        if self._used:
            raise VideoError(f"{self.address}: a stream can be read only once")
        self._used = True
        with self.container:
            yield self.container, self.video

    def packets(self) -> Iterator[av.Packet]:
        """Yield the packets from the first key frame on."""
        return dropwhile(lambda packet: packet.size and not packet.is_keyframe, self.container.demux(self.video))

    def decoded(self) -> Iterator[av.VideoFrame]:
        """Yield decoded frames; packets that were damaged on the way are skipped."""
        for packet in self.packets():
            try:
                yield from packet.decode()
            except av.InvalidDataError:
                continue


def is_stream(source: Path | str) -> bool:
    """Return whether a source is a camera, a network address or a pipe, and not a file.

    Args:
        source: `0`, `/dev/video0`, `rtsp://…`, `-`, or a path.

    Example:
        >>> is_stream("rtsp://camera/1"), is_stream("-"), is_stream("clip.mp4")
        (True, True, False)
    """
    text = str(source)
    if "://" in text or text in _PIPES:
        return True
    return (bool(_CAMERA.fullmatch(text)) and not Path(text).is_file() and not Path(text).is_dir()) or _is_fifo(text)


def open_stream(source: str, drop_frames: bool | None = None) -> Stream:
    """Open a stream.

    Args:
        source: number or device of a camera (Linux), an address, `-` for the standard input, or a named pipe.
        drop_frames: whether frames that arrive while the network is busy are dropped. None: yes, except for
            addresses of files of a known length.

    Returns:
        the stream.

    Raises:
        VideoError: if it cannot be opened or has no video.
    """
    address = re.sub(r"(?<=://)[^/@]*@", "", source)
    url, video_format, options = _input(source, address)
    try:
        container = av.open(
            url, format=video_format, options=options, timeout=(PATIENCE, PATIENCE), metadata_errors="ignore"
        )
        video = container.streams.best("video")
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{address}: cannot be opened ({reason})") from error
    if not isinstance(video, VideoStream) or not getattr(video, "codec_context", None) or not video.codec_context.width:
        container.close()
        raise VideoError(f"{address}: no video in this stream")
    # Cameras and media servers send in real time. Others may send as fast as they can.
    paced = url.startswith(("http:", "https:", "pipe:"))
    ends = url.startswith(("http:", "https:")) and (container.duration or 0) > 0
    return Stream(address, container, video, not ends if drop_frames is None else drop_frames, paced)


def _input(source: str, address: str) -> tuple[str, str | None, dict[str, str]]:
    """Return what FFmpeg opens: a URL, a format, and options."""
    if "://" in source:
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": _PROTOCOLS}
        # Over UDP, lost packets would damage frames.
        return source, None, options | ({"rtsp_transport": "tcp"} if source.startswith("rtsp:") else {})
    if source in _PIPES:
        return "pipe:0", None, {"format_whitelist": _FORMATS, "protocol_whitelist": "pipe"}
    if _is_fifo(source):
        # By descriptor: if the writer has closed the pipe already, opening it again would block, and lose the content.
        url = f"pipe:{_open_fifo(source)}"
        return url, None, {"format_whitelist": _FORMATS, "protocol_whitelist": "pipe"}
    if sys.platform != "linux":
        raise VideoError(f"{address}: cameras are read on Linux only; give the address of a stream")
    device = source if source.startswith("/") else f"/dev/video{source}"
    if not Path(device).exists():
        raise VideoError(f"{address}: there is no such camera ({device} does not exist)")
    return device, "v4l2", {}


def _open_fifo(path: str) -> int:
    """Return the descriptor of a named pipe once something was written to it; opening it for reading would block.

    The descriptor stays open until the process ends, because FFmpeg may use it until then.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise VideoError(f"{path}: cannot be opened ({error.strerror})") from error
    if not select.select([descriptor], [], [], PATIENCE)[0]:
        os.close(descriptor)
        raise VideoError(f"{path}: nothing was written to this pipe within {PATIENCE:g} s")
    os.set_blocking(descriptor, True)
    return descriptor


def _is_fifo(path: str) -> bool:
    try:
        return Path(path).is_fifo()
    except (OSError, ValueError):
        return False
