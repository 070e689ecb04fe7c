"""Matches the names of mask files to frames of a video."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from voslab.core import DataError

_LAST_NUMBER = re.compile(r"^(.*?)(\d+)$")
_FRAME_PREFIX = re.compile(r"(?:frame|frames|img|image|im|f)[ _.-]*", re.IGNORECASE)


@dataclass(frozen=True)
class FrameNames:
    """Names and number of a video's frames.

    Attributes:
        names: Stems of the images; None for a video file.
        count: Exact number of frames; None if it is not known.
    """

    names: Sequence[str] | None = None
    count: int | None = None

    def find(self, stem: str) -> int | None:
        """Return the frame that a mask's name stands for.

        A mask has the name of its image, or the number at the end of that name. If no image has a number, or the video
        is a file, masks are named by the number of the frame, from 0, such as `00012` or `frame_000012`.

        Args:
            stem: Name of the mask without its extension.

        Returns:
            Index of the frame; None if the name stands for none.

        Example:
            >>> FrameNames(("00005", "00010")).find("10"), FrameNames().find("frame_000012"), FrameNames().find("dog")
            (1, 12, None)
        """
        if self.names is not None and stem in self.names:
            return self.names.index(stem)
        found = _LAST_NUMBER.match(stem)
        if found is None:
            return None
        prefix, number = found[1], int(found[2])
        plain = not prefix or _FRAME_PREFIX.fullmatch(prefix) is not None
        numbers = self._numbers
        if not numbers:
            return number if plain else None
        same = [i for i, (before, value) in enumerate(numbers) if value == number and (plain or before == prefix)]
        return same[0] if len(same) == 1 else None

    def index(self, source: object, stem: str) -> int:
        """Return the frame that a mask's name stands for.

        Args:
            source: File of the mask, for messages.
            stem: See `find`.

        Raises:
            DataError: If there is no such frame.
        """
        index = self.find(stem)
        if index is None and self.names is not None and self._numbers:
            known = f"{self.names[0]} to {self.names[-1]}"
            raise DataError(f"{source}: no image of the video has this name (they are {known})")
        if index is None:
            raise DataError(f"{source}: a mask must be named by the number of its frame, such as 00012.png")
        if self.count is not None and index >= self.count:
            raise DataError(f"{source}: mask for frame {index}, but the video has {self.count} frames, counted from 0")
        return index

    @property
    def _numbers(self) -> list[tuple[str, int]]:
        """Return prefix and last number of each image's name; empty unless all have one and no two are equal."""
        found = [_LAST_NUMBER.match(name) for name in self.names or ()]
        numbers = [(match[1], int(match[2])) for match in found if match is not None]
        return numbers if len(set(numbers)) == len(found) else []
