"""Reads the masks that a user gives with a video: one file for the first frame, or a folder of masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError
from voslab.video.images import image_files
from voslab.video.mask_formats.label_image import read_mask


class MaskFiles(Mapping[int, NDArray[np.int32]]):
    """Label maps H W by presentation index, each read from its file on access.

    Args:
        files: mask file by presentation index.
        size: H, W of the video; None: the size of the first mask that is read.

    Raises:
        DataError: on access, if `read_mask` raises it or a mask has another size.
    """

    def __init__(self, files: Mapping[int, Path], size: tuple[int, int] | None = None) -> None:
        self._files = dict(sorted(files.items()))
        self._size: tuple[int, ...] | None = size
        self._size_of = "the ones before" if size is None else "the video"

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        labels = read_mask(self._files[index])
        self._size = self._size or labels.shape
        if labels.shape != self._size:
            (height, width), (first_height, first_width) = labels.shape, self._size
            raise DataError(
                f"{self._files[index]}: the mask is {width} x {height}, {self._size_of} {first_width} x {first_height}"
            )
        return labels

    def __iter__(self) -> Iterator[int]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def read_masks(
    path: Path | str,
    count: int | None = None,
    names: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
) -> MaskFiles:
    """Find the mask files of a video.

    Args:
        path: mask file of frame 0, or a folder of masks. A mask has the name of its image if the video is a folder of
            images, or else the number of its frame, from 0 (`00012.png` or `12.png`).
        count: exact number of frames; None if it is not known.
        names: stems of the video's images (`Video.names`). If some are numbers, masks are matched by these numbers,
            because `00005` need not be frame 5.
        size: H, W of the video; every mask must have it.

    Returns:
        label maps by presentation index, in the order of the frames.

    Raises:
        DataError: if the path does not exist, the folder has no image, a mask matches no frame, or two masks match
            the same frame.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.is_file():
            raise DataError(f"{path}: no such mask file or folder")
        return MaskFiles({0: path}, size)
    files: dict[int, Path] = {}
    for file in image_files(path):
        index = _index(file, names)
        if index in files:
            raise DataError(f"{file}: a second mask for frame {index}, besides {files[index].name}")
        if count is not None and index >= count:
            raise DataError(f"{file}: mask for frame {index}, but the video has {count} frames, counted from 0")
        files[index] = file
    return MaskFiles(files, size)


def _index(file: Path, names: Sequence[str] | None) -> int:
    if names is not None and file.stem in names:
        return names.index(file.stem)
    if names is not None and any(name.isdecimal() for name in names):
        same = [
            i
            for i, name in enumerate(names)
            if name.isdecimal() and file.stem.isdecimal() and int(name) == int(file.stem)
        ]
        if len(same) == 1:
            return same[0]
        raise DataError(f"{file}: no image of the video has this name (they are {names[0]} to {names[-1]})")
    if not file.stem.isdecimal():
        raise DataError(f"{file}: a mask must be named by the number of its frame, such as 00012.png")
    return int(file.stem)
