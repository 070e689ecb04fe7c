"""Reads frames from a video file or a folder of images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from voslab.core import DataError, RawFrame, VideoError
from voslab.video.animated import animation_frames, is_image, read_animation
from voslab.video.decode import DEFAULT_RATE, damage_at, decoded_frames, presentation_time, read_header, to_image
from voslab.video.images import image_files, read_image
from voslab.video.random_access import FileAccess, FrameAccess, ImageAccess, IterableAccess
from voslab.video.stream import Stream, is_stream, open_stream

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Video:
    """Source of frames: a video file or a folder of images.

    Iteration yields `RawFrame`s in presentation order, all of one size, without codec data. Each iteration starts at
    the first frame and decodes lazily; no more frames are in memory than the codec delays. The first complete
    iteration logs a warning with the numbers of missing and of partly concealed frames.

    Attributes:
        path: the file or folder.
        size: H, W of every frame, upright.
        rate: frames per second; the average where it varies, 24 for folders.
        count: number of frames: exact for folders, declared or estimated for files, None if unknown.
        names: stems of the image files of a folder; None for video files.
        decode: starts an iteration.
        access: reads parts, and in reverse; None for streams.
        stream: the stream; None for files and folders. It can be iterated once.

    Raises:
        VideoError: during iteration, if the file is damaged; the frames before the damage are yielded first.
        DataError: during iteration of a folder, if an image is damaged or has another size.
    """

    path: Path
    size: tuple[int, int]
    rate: Fraction
    count: int | None
    names: tuple[str, ...] | None
    decode: Callable[[], Iterator[RawFrame]] = field(repr=False, compare=False)
    access: FrameAccess | None = field(default=None, repr=False, compare=False)
    stream: Stream | None = field(default=None, repr=False, compare=False)

    def __iter__(self) -> Iterator[RawFrame]:
        return self.decode()

    @property
    def is_video_file(self) -> bool:
        """Whether the source is a file that FFmpeg reads: no folder, no animated PNG or WebP, and no stream."""
        return self.names is None and self.stream is None and not is_image(self.path)


def open_video(path: Path | str, drop_frames: bool | None = None) -> Video:
    """Open a video file, a folder of images or a stream, and decode the first frame.

    Args:
        path: a video file (mp4, mov, mkv, webm, avi, …), an animated GIF, PNG or WebP, or a folder of images, read in
            natural order of the names. Or a stream, which is read once: the number or device of a camera, an address
            such as `rtsp://…`, `-` for the standard input, or a named pipe.
        drop_frames: whether frames of a stream that arrive while the network is busy are dropped. None: yes, except
            for addresses of files of a known length.

    Returns:
        the source of frames.

    Raises:
        VideoError: if the path does not exist, is not a video, or no frame can be decoded.
        DataError: if a folder has no images, two images with the same stem, or a damaged first image.
    """
    if is_stream(path):
        return _open_file(open_stream(str(path), drop_frames))
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    return _open_animation(path) if is_image(path) else _open_file(path)


def _open_file(path: Path | Stream) -> Video:
    header = read_header(path)
    warned: list[int] = []

    def decode() -> Iterator[RawFrame]:
        reformatter = VideoReformatter()
        index, size = -1, None
        concealed: list[int] = []
        last: float | None = None
        for index, frame in enumerate(decoded_frames(path)):
            last = frame.time if last is None or frame.time is None else max(last, frame.time)
            if frame.is_corrupt:
                concealed.append(index)
            with damage_at(path, index):
                image = to_image(frame, reformatter)
            size = size or image.shape[:2]
            if image.shape[:2] != size:
                raise VideoError(f"{path}: frame {index} is {_by(image.shape)}, the frames before are {_by(size)}")
            yield RawFrame(index, image, time=presentation_time(frame))
        if warned:
            return
        if missing := header.missing(index + 1, last):
            warned.append(index)
            _log.warning("%s: %s", path, missing)
        if concealed:
            warned.append(index)
            _log.warning(
                "%s: damaged, parts of %d of %d frames are guesses (the first is frame %d)",
                path,
                len(concealed),
                index + 1,
                concealed[0],
            )

    if isinstance(path, Stream):
        return Video(Path(path.address), path.size, header.rate, header.count, None, decode, None, path)
    height, width = next(decode()).image.shape[:2]
    return Video(path, (height, width), header.rate, header.count, None, decode, FileAccess(path))


def _open_animation(path: Path) -> Video:
    size, count, rate = read_animation(path)

    def decode() -> Iterator[RawFrame]:
        return animation_frames(path)

    return Video(path, size, rate or DEFAULT_RATE, count, None, decode, IterableAccess(str(path), count, decode))


def _open_folder(folder: Path) -> Video:
    files = image_files(folder)
    height, width = read_image(files[0]).shape[:2]

    def read(index: int) -> NDArray[np.uint8]:
        image = read_image(files[index])
        if image.shape[:2] != (height, width):
            raise DataError(
                f"{files[index]}: the image is {_by(image.shape)}, the ones before are {_by((height, width))}"
            )
        return image

    access = ImageAccess(len(files), read)
    names = tuple(file.stem for file in files)
    return Video(
        folder, (height, width), DEFAULT_RATE, len(files), names, lambda: access.between(0, len(files)), access
    )


def _by(size: tuple[int, ...]) -> str:
    """Format H, W as width x height."""
    return f"{size[1]} x {size[0]}"
