"""Opens what users give as a video for propagation in both directions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voslab.core import ConfigError, DataError, RawFrame
from voslab.engine.codec_source import CodecAccess, CodecSource
from voslab.engine.directions import FrameSource
from voslab.engine.live import LiveFrames
from voslab.engine.runner import raw_frame
from voslab.video import Video, open_video, read_image
from voslab.video.random_access import FrameAccess, ImageAccess

Source = str | Path | Video | Sequence[str | Path] | Iterable[NDArray[np.uint8]]


@dataclass(frozen=True)
class OpenedSource:
    """An opened source.

    Attributes:
        frames: its frames.
        names: stems of the image files; None for other sources.
        size: H, W; None if it is not known before the first frame is read.
        access: reads images in any order; None for streams.
    """

    frames: FrameSource
    names: Sequence[str] | None
    size: tuple[int, int] | None
    access: FrameAccess | None


def open_source(source: Source, codec: CodecSource | None, model: str) -> OpenedSource:
    """Open a source.

    Args:
        source: path of a video file or folder, list of image paths, `Video`, or iterable of H W 3 uint8 arrays.
        codec: reads codec data, for models that need them.
        model: name of the model, for messages.

    Raises:
        VideoError, DataError: if the source cannot be read.
        ConfigError: if the model reads codec data and the source has none.
    """
    if isinstance(source, str | Path):
        source = open_video(source)
    if isinstance(source, Video):
        if source.access is None:
            return OpenedSource(_stream(source, codec), None, source.size, None)
        frames = _plain(source.access, source) if codec is None else _coded(codec, source, source.access)
        return OpenedSource(frames, source.names, source.size, source.access)
    images = list(source) if isinstance(source, np.ndarray) else source
    if isinstance(images, Sequence) and not images:
        raise DataError("the source has no frames")
    if paths := _paths(images):
        access = ImageAccess(len(paths), lambda index: read_image(paths[index]))
        frames = _plain(access) if codec is None else _coded(codec, paths, access)
        return OpenedSource(frames, [path.stem for path in paths], None, access)
    if codec is not None:
        raise ConfigError(f"model '{model}' reads codec data: give a video file, a folder or a list of image files")
    if isinstance(images, Sequence):
        arrays: Sequence[Any] = images
        access = ImageAccess(len(arrays), lambda index: raw_frame(index, arrays[index]).image)
        return OpenedSource(_plain(access), None, None, access)
    stream: Any = images
    return OpenedSource(FrameSource(lambda _: stream), None, None, None)


def find_size(source: OpenedSource) -> OpenedSource:
    """Return a source whose size is known, if the first frame has one; a stream is read up to it."""
    if source.size is not None:
        return source
    iterator = iter(source.frames.forward(0) if source.access is None else source.access.between(0, 1))
    first = list(islice(iterator, 1))
    shape = np.shape(first[0].image if isinstance(first[0], RawFrame) else first[0]) if first else ()
    frames = source.frames
    if source.access is None:
        stream = chain(first, iterator)
        frames = FrameSource(lambda _: stream)
    return replace(source, frames=frames, size=(shape[0], shape[1]) if len(shape) > 1 else None)


def _stream(source: Video, codec: CodecSource | None) -> FrameSource:
    """Read a stream, or what of it the network can take."""
    frames: Iterable[RawFrame] = source if codec is None else codec.frames(source)
    if source.stream is not None and source.stream.drop:
        frames = LiveFrames(iter(frames), source.stream)
    return FrameSource(lambda _: frames)


def _plain(access: FrameAccess, whole: Iterable[RawFrame] | None = None) -> FrameSource:
    """Read frames without codec data. `whole` iterates over all of them, and logs what is missing."""

    def forward(start: int) -> Iterable[RawFrame]:
        return access.between(start, access.count) if start or whole is None else whole

    return FrameSource(forward, access.backward, partial(_image, access), lambda: access.count)


def _coded(codec: CodecSource, source: Video | Sequence[Path], images: FrameAccess) -> FrameSource:
    """Read frames with codec data; the file is searched for the frames at which reading can start when it is needed."""
    found: list[CodecAccess] = []

    def access() -> CodecAccess:
        if not found:
            found.append(codec.access(source))
        return found[0]

    def forward(start: int) -> Iterator[RawFrame]:
        return access().forward(start) if start else codec.frames(source)

    return FrameSource(forward, lambda last: access().backward(last), partial(_image, images), lambda: access().count)


def _image(access: FrameAccess, index: int) -> RawFrame:
    return next(access.between(index, index + 1))


def _paths(source: Any) -> list[Path]:
    """Return the files of a list of paths; nothing for other sources."""
    if not isinstance(source, Sequence):
        return []
    return [Path(item) for item in source] if all(isinstance(item, str | Path) for item in source) else []
