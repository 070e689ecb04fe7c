"""Reads the masks that a user gives with a video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError
from voslab.video.mask_formats.colours import ColourTable
from voslab.video.mask_formats.find import find_masks
from voslab.video.mask_formats.frame_names import FrameNames
from voslab.video.mask_formats.given import ArrayMask, GivenMask, ImageMask
from voslab.video.mask_formats.oddities import warn_of_oddities
from voslab.video.mask_formats.options import MaskOptions, Warn, WarnOnce

_DEFAULT = MaskOptions()
_ROUNDING = 1
"""Pixels per side by which a mask may differ from the video: programs round odd sizes in different ways."""


class MaskFiles(Mapping[int, NDArray[np.integer]]):
    """Label maps H W by presentation index, each read on access.

    Args:
        masks: mask by presentation index.
        size: H, W of the video; None: the size of the first mask that is read.
        options: how masks are understood.
        warn: receives what was done to a mask, and what is odd about it; None logs one warning of each kind.

    Raises:
        DataError: on access, if a mask cannot be read or has another size.
    """

    def __init__(
        self,
        masks: Mapping[int, GivenMask],
        size: tuple[int, int] | None = None,
        options: MaskOptions = _DEFAULT,
        warn: Warn | None = None,
    ) -> None:
        self._masks = dict(sorted(masks.items()))
        self._size = size
        self._size_of = "the ones before" if size is None else "the video"
        self._options = options
        self._warn = WarnOnce() if warn is None else warn

    def __getitem__(self, index: int) -> NDArray[np.integer]:
        mask = self._masks[index]
        # From the header, so that a mask of another size is refused before it is decoded.
        self._check_size(mask)
        labels = mask.labels(self._size)
        if self._options.void is not None:
            labels = np.where(labels == self._options.void, labels.dtype.type(0), labels)
        warn_of_oddities(mask.source, labels, self._warn)
        if self._size is not None and labels.shape != self._size:
            rows, columns = (
                ((np.arange(new) + 0.5) * old / new).astype(np.int64)
                for new, old in zip(self._size, labels.shape, strict=True)
            )
            labels = labels[np.ix_(rows, columns)]
        return labels

    def check_sizes(self) -> None:
        """Check the sizes of all masks from the headers of their files.

        Raises:
            DataError: if a header cannot be read, or a mask has another size.
        """
        for mask in self._masks.values():
            self._check_size(mask)

    def _check_size(self, mask: GivenMask) -> None:
        found = mask.size()
        self._size = self._size or found
        if found is None or self._size is None or found == self._size or self._options.resize:
            return
        if max(abs(one - other) for one, other in zip(found, self._size, strict=True)) > _ROUNDING:
            raise self._wrong_size(mask.source, found)
        (height, width), (rows, columns) = found, self._size
        self._warn("size", f"{mask.source}: the mask is {width} x {height}, resized to {columns} x {rows}")

    def _wrong_size(self, source: str, found: tuple[int, int]) -> DataError:
        height, width = self._size or found
        return DataError(
            f"{source}: the mask is {found[1]} x {found[0]}, {self._size_of} {width} x {height}; mask_resize=true"
            " scales it"
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)


def read_masks(
    path: Path | str,
    count: int | None = None,
    names: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    options: MaskOptions = _DEFAULT,
) -> MaskFiles:
    """Find the masks of a video; see `find_masks` for what they may be.

    Args:
        path: mask file of frame 0, a folder of masks, or annotations of COCO, LabelMe or YOLO.
        count: exact number of frames; None if it is not known.
        names: stems of the video's images (`Video.names`). If some have numbers, masks are matched by these numbers,
            because `00005` need not be frame 5.
        size: H, W of the video; every mask must have it, unless `options.resize` is set. A mask that differs by one
            pixel is resized with a warning.
        options: how masks are understood.

    Returns:
        label maps by presentation index, in the order of the frames.

    Raises:
        DataError: if the path does not exist, the folder has no mask, a mask matches no frame, two masks match the
            same frame, or a mask differs from the video by more than a pixel per side.
    """
    if "://" in str(path):
        raise DataError(f"{path}: an address, not a file; download the mask and give its path")
    warn = WarnOnce()
    found = find_masks(Path(path), FrameNames(names, count), options, warn)
    masks = MaskFiles(found, size, options, warn)
    masks.check_sizes()
    return masks


def given_masks(
    masks: Mapping[int, Any], size: tuple[int, int] | None = None, options: MaskOptions = _DEFAULT
) -> MaskFiles:
    """Treat label maps in memory, and mask images, like the masks of a folder.

    Args:
        masks: label map H W, or path of an image, by presentation index.
        size: H, W of the video; None if it is not known.
        options: how masks are understood.

    Returns:
        label maps by presentation index, in the order of the frames.

    Raises:
        DataError: if an index is no frame, or a label map is not H W integers.

    Example:
        >>> given_masks({0: np.eye(2, dtype=bool)})[0].tolist()
        [[1, 0], [0, 1]]
    """
    warn, table = WarnOnce(), ColourTable(options.void)
    found: dict[int, GivenMask] = {}
    for index, mask in masks.items():
        if not isinstance(index, int | np.integer) or index < 0:
            raise DataError(f"mask given for frame {index}: frames are counted from 0")
        if isinstance(mask, str | Path):
            found[int(index)] = ImageMask(Path(mask), options, warn, table)
        else:
            found[int(index)] = ArrayMask(_label_map(int(index), mask), f"the mask of frame {index}")
    return MaskFiles(found, size, options, warn)


def _label_map(index: int, mask: Any) -> NDArray[np.integer]:
    labels = np.asarray(mask)
    if labels.ndim != 2 or labels.dtype.kind not in "biu":
        raise DataError(f"the mask of frame {index} is {labels.dtype} of shape {labels.shape}, a mask is H W integers")
    return labels.astype(np.uint8) if labels.dtype.kind == "b" else labels
