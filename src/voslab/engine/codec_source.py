"""Provides frames with codec data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Self

from voslab.core import ConfigError, RawFrame, VideoError
from voslab.core.parameters import check_parameters
from voslab.engine.keys import Keys, select_keys
from voslab.video import Video, read_image
from voslab.video.codec_reader import codec_frames, ensure_motion_vectors
from voslab.video.decode import presentation_times
from voslab.video.encode import Encoding, encode_to_cache
from voslab.video.frame_index import KeyFrame
from voslab.video.motion.intra_fill import FILLS, Fill, fill_intra_blocks
from voslab.video.motion.optical_flow import MOTIONS, Motion, replace_motion
from voslab.video.packets import NoVectorsError, reference_starts
from voslab.video.random_access import in_reverse
from voslab.video.stream import Stream
from voslab.video.vector_files import vector_frames


@dataclass(frozen=True)
class CodecSource:
    """Source of frames with motion, references and residual.

    Attributes:
        cache: folder for encoded files.
        encoding: settings for image sequences and for video whose own vectors cannot be read.
        motion: motion of B-frames: the codec's or a replacement (see `replace_motion`).
        intra_fill: motion of intra blocks in frames that are propagated (see `fill_intra_blocks`).
        keys: which frames are key frames.
        vectors: npz file of vectors that another decoder wrote, in place of the codec's (see
            `voslab.video.vector_files`), or a folder of `<video>.npz`, where `<video>` is the name of the file without
            its ending, or of the folder of images.

    Raises:
        ConfigError: unknown motion or intra_fill.
    """

    cache: Path
    encoding: Encoding = field(default_factory=Encoding)
    motion: Motion = "codec"
    intra_fill: Fill = "nearest"
    keys: Keys = field(default_factory=Keys)
    vectors: Path | None = None

    def __post_init__(self) -> None:
        for name, value, known in (("motion", self.motion, MOTIONS), ("intra_fill", self.intra_fill, FILLS)):
            if value not in known:
                raise ConfigError(f"{name}={value}: choose from {', '.join(known)}")

    @classmethod
    def from_plain(cls, cache: Path, values: dict[str, Any] | None) -> Self | None:
        """Build a source from the `codec` values of a checkpoint or of a model's configuration.

        Args:
            cache: folder for encoded files.
            values: plain values; None if the method uses no codec data.

        Returns:
            the source; None if `values` is None.

        Raises:
            ConfigError: if a name or value is unknown.
        """
        if values is None:
            return None
        if not isinstance(values, dict) or not isinstance(values.get("encoding"), dict):
            raise ConfigError(f"model.encoding: {values} has no settings of x264")
        check_parameters(Encoding, values["encoding"], "model.encoding.")
        keys = values.get("keys", {})
        if not isinstance(keys, dict):
            raise ConfigError(f"model.keys: {keys} has no settings; give model/keys=NAME")
        check_parameters(Keys, keys, "model.keys.")
        others = {name: value for name, value in values.items() if name not in ("encoding", "keys")}
        check_parameters(cls, others, "model.")
        vectors = None if others.get("vectors") is None else Path(others["vectors"])
        built = {"cache": cache, "encoding": Encoding(**values["encoding"]), "keys": Keys(**keys), "vectors": vectors}
        return cls(**{**others, **built})

    def frames(self, source: Video | Sequence[Path]) -> Iterator[RawFrame]:
        """Yield frames in decode order at the source's size, with codec data at a quarter of it.

        Args:
            source: a video file, a folder of images, or a list of image files. Files without readable vectors, folders
                and lists are encoded once.

        Yields:
            frames with codec data.

        Raises:
            VideoError, DataError: if the source is damaged.
            WriteError: if the cache cannot be written.
        """
        if self.vectors is not None:
            return self._prepare(vector_frames(self.vector_file(source), _images(source)))
        stream = source.stream if isinstance(source, Video) else None
        return self._read(source, self.file(source) if stream is None else stream, None)

    def access(self, source: Video | Sequence[Path]) -> CodecAccess:
        """Return access to parts of a source, in both directions; see `frames`."""
        if self.vectors is not None:
            if not isinstance(source, Video):
                count = len(source)
            else:
                assert source.access is not None, "`_vector_file` refuses streams"
                count = source.access.count
            return CodecAccess(
                str(self.vector_file(source)), count, (KeyFrame(0, None),), lambda _: self.frames(source)
            )
        file = self.file(source)
        count, starts = reference_starts(file)
        return CodecAccess(str(file), count, starts, partial(self._read, source, file))

    def _read(self, source: Video | Sequence[Path], file: Path | Stream, start: KeyFrame | None) -> Iterator[RawFrame]:
        size = source.size if isinstance(source, Video) else read_image(source[0]).shape[:2]
        frames = codec_frames(file, resolution="quarter", size=size, start=start)
        if isinstance(file, Stream):
            frames = _without_copy(frames)
        if isinstance(source, Video) and source.is_video_file and source.path != file:
            frames = _with_times(frames, presentation_times(source.path))
        return self._prepare(frames)

    def _prepare(self, frames: Iterator[RawFrame]) -> Iterator[RawFrame]:
        """Select key frames, and replace or complete the motion of the others."""
        frames = select_keys(frames, self.keys)
        if self.motion != "codec":
            return replace_motion(frames, self.motion)
        return fill_intra_blocks(frames, self.intra_fill)

    def vector_file(self, source: Video | Sequence[Path]) -> Path:
        """Return the file with the vectors of a source. Raises `ConfigError` for a stream."""
        assert self.vectors is not None, "no file was given"
        if isinstance(source, Video) and source.stream is not None:
            raise ConfigError(f"model.vectors={self.vectors}: a stream brings its own vectors")
        path = source.path if isinstance(source, Video) else source[0].parent
        name = path.stem if path.is_file() else path.name
        return self.vectors / f"{name}.npz" if self.vectors.is_dir() else self.vectors

    def file(self, source: Video | Sequence[Path]) -> Path:
        """Return the file that `frames` reads: the video itself, or a copy that is encoded into the cache once."""
        if isinstance(source, Video) and source.is_video_file:
            return ensure_motion_vectors(source.path, self.cache, self.encoding)
        return encode_to_cache(source, self.cache, self.encoding)


def _images(source: Video | Sequence[Path]) -> Iterator[RawFrame]:
    """Yield plain frames in presentation order."""
    if isinstance(source, Video):
        return iter(source)
    return (RawFrame(index, read_image(path)) for index, path in enumerate(source))


def _with_times(frames: Iterator[RawFrame], times: Sequence[Fraction]) -> Iterator[RawFrame]:
    """Give the frames of a copy, which has a constant frame rate, the times of the source."""
    for frame in frames:
        yield replace(frame, time=times[frame.index] if frame.index < len(times) else None)


@dataclass(frozen=True)
class CodecAccess:
    """Access to parts of a source with codec data.

    Attributes:
        name: name of the source, for messages.
        count: number of frames.
        starts: frames at which reading can start.
        read: yields frames in decode order from one of them on.
    """

    name: str
    count: int
    starts: tuple[KeyFrame, ...]
    read: Callable[[KeyFrame], Iterator[RawFrame]]

    def forward(self, start: int) -> Iterator[RawFrame]:
        """Yield frames in decode order. The first one is the last of `starts` at or before frame `start`."""
        return self.read(max((key for key in self.starts if key.index <= start), key=lambda key: key.index))

    def backward(self, last: int) -> Iterator[RawFrame]:
        """Yield frames in reverse; see `in_reverse`. The first group may hold frames after `last`."""
        stops = [key.index for key in self.starts if key.index > last]
        end = min(stops, default=self.count)
        return in_reverse(self._between, [key.index for key in self.starts], end - 1, self.name)

    def _between(self, start: int, stop: int) -> Iterator[RawFrame]:
        [key] = [key for key in self.starts if key.index == start]
        return islice((frame for frame in self.read(key) if frame.index < stop), stop - start)


def _without_copy(frames: Iterator[RawFrame]) -> Iterator[RawFrame]:
    """Say what to do about a stream without motion vectors; a file would be encoded again."""
    try:
        yield from frames
    except NoVectorsError as error:
        raise VideoError(f"{error}; use a model that reads no codec data, such as stcn") from error
