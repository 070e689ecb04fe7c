"""Where a segmenter that looks at codec side data gets its pictures from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from voslab.core import ConfigError, RawFrame
from voslab.core.parameters import check_parameters
from voslab.video import Video, read_image
from voslab.video.codec_reader import codec_frames, ensure_motion_vectors
from voslab.video.encode import Encoding, encoded
from voslab.video.motion.intra_fill import FILLS, Fill, with_fill
from voslab.video.motion.optical_flow import MOTIONS, Motion, with_motion


@dataclass(frozen=True)
class CodecSource:
    """Pictures with motion, references and residual.

    Attributes:
        cache: folder of the files that are encoded for it.
        encoding: of image sequences, and of video whose own vectors cannot be read.
        motion: of B-frames: the codec's own, or what it is compared to (see `with_motion`).
        fill: what stands in for the codec's own where it predicted from nothing (see `with_fill`).

    Raises:
        ConfigError: for a motion or a fill that is not known.
    """

    cache: Path
    encoding: Encoding = field(default_factory=Encoding)
    motion: Motion = "codec"
    fill: Fill = "nearest"

    def __post_init__(self) -> None:
        for name, value, known in (("motion", self.motion, MOTIONS), ("fill", self.fill, FILLS)):
            if value not in known:
                raise ConfigError(f"{name}={value}: choose from {', '.join(known)}")

    @classmethod
    def from_plain(cls, cache: Path, values: dict[str, Any] | None) -> Self | None:
        """From plain `encoding`, `motion` and `fill`, as configurations and checkpoints have them; None: no coding.

        Raises:
            ConfigError: for a name or a value that is not known.
        """
        if values is None:
            return None
        if not isinstance(values, dict) or not isinstance(values.get("encoding"), dict):
            raise ConfigError(f"model.encoding: {values} has no settings of x264")
        check_parameters(Encoding, values["encoding"], "model.encoding.")
        check_parameters(cls, {name: value for name, value in values.items() if name != "encoding"}, "model.")
        return cls(**{**values, "cache": cache, "encoding": Encoding(**values["encoding"])})

    def pictures(self, source: Video | Sequence[Path]) -> Iterator[RawFrame]:
        """CodecData pictures in decode order, of the source's size; side data at a quarter of it.

        Args:
            source: a video file that has vectors is read as it is; other files, folders and lists of image files are
                encoded first, once.

        Raises:
            VideoError, DataError: the source is damaged.
            WriteError: the cache cannot be written.
        """
        size = source.size if isinstance(source, Video) else read_image(source[0]).shape[:2]
        pictures = codec_frames(self.file(source), resolution="quarter", size=size)
        return with_fill(pictures, self.fill) if self.motion == "codec" else with_motion(pictures, self.motion)

    def file(self, source: Video | Sequence[Path]) -> Path:
        """The file that `pictures` reads: the video itself, or what is encoded in the cache, once."""
        if isinstance(source, Video) and not source.names:
            return ensure_motion_vectors(source.path, self.cache, self.encoding)
        return encoded(source, self.cache, self.encoding)
