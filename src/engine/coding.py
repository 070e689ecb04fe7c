"""Where a segmenter that looks at codec side data gets its pictures from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from src.core import Picture
from src.video import Video, read_image
from src.video.coded import coded_pictures, with_vectors
from src.video.encode import Encoding, encoded


@dataclass(frozen=True)
class Coding:
    """Pictures with motion, references and residual.

    Attributes:
        cache: folder of the files that are encoded for it.
        encoding: of image sequences, and of video whose own vectors cannot be read.
    """

    cache: Path
    encoding: Encoding = field(default_factory=Encoding)

    def pictures(self, source: Video | Sequence[Path]) -> Iterator[Picture]:
        """Coded pictures in decode order, of the source's size; side data at a quarter of it.

        Args:
            source: a video file that has vectors is read as it is; other files, folders and lists of image files are
                encoded first, once.

        Raises:
            VideoError, DataError: the source is damaged.
            WriteError: the cache cannot be written.
        """
        if not isinstance(source, Video):
            height, width, _ = read_image(source[0]).shape
            path, size = encoded(source, self.cache, self.encoding), (height, width)
        elif source.names:
            path, size = encoded(source, self.cache, self.encoding), source.size
        else:
            path, size = with_vectors(source.path, self.cache, self.encoding), source.size
        return coded_pictures(path, resolution="quarter", size=size)
