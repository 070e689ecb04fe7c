"""Masks of single frames, read on access from images or annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError
from voslab.video.images import image_size
from voslab.video.mask_formats.annotations import AnnotatedImage
from voslab.video.mask_formats.colours import ColourTable
from voslab.video.mask_formats.label_image import read_mask
from voslab.video.mask_formats.options import MaskOptions, Warn


class GivenMask(Protocol):
    """The mask of one frame."""

    @property
    def source(self) -> str:
        """File or frame, for messages."""
        ...

    def size(self) -> tuple[int, int] | None:
        """Return H, W from the header of the file; None if the mask has no size of its own."""
        ...

    def labels(self, size: tuple[int, int] | None) -> NDArray[np.integer]:
        """Return the label map H W; `size` is that of the video, for masks that have none."""
        ...


@dataclass(frozen=True)
class ImageMask:
    """A label map, or one white object, in an image file.

    Attributes:
        path: The file.
        options: How it is understood.
        warn: Receives what was done to it.
        table: Ids of colours, shared by the masks of a video.
    """

    path: Path
    options: MaskOptions
    warn: Warn
    table: ColourTable

    @property
    def source(self) -> str:
        """See `GivenMask.source`."""
        return str(self.path)

    def size(self) -> tuple[int, int] | None:
        """See `GivenMask.size`."""
        return image_size(self.path)

    def labels(self, size: tuple[int, int] | None) -> NDArray[np.int32]:
        """See `GivenMask.labels`."""
        return read_mask(self.path, self.options, self.warn, self.table)


@dataclass(frozen=True)
class ObjectImages:
    """One image file per object, each with one object.

    Attributes:
        files: Files by object id.
        options: How they are understood.
        warn: Receives what was done to them.
    """

    files: Mapping[int, Path]
    options: MaskOptions
    warn: Warn

    @property
    def source(self) -> str:
        """See `GivenMask.source`."""
        return str(next(iter(self.files.values())))

    def size(self) -> tuple[int, int] | None:
        """See `GivenMask.size`."""
        first, *others = self.files.values()
        size = image_size(first)
        for path in others:
            if (found := image_size(path)) != size:
                raise DataError(
                    f"{path}: the mask is {found[1]} x {found[0]}, that of another object of this frame"
                    f" {size[1]} x {size[0]}"
                )
        return size

    def labels(self, size: tuple[int, int] | None) -> NDArray[np.int32]:
        """See `GivenMask.labels`; where objects overlap, the later one wins."""
        out: NDArray[np.int32] | None = None
        overlap = 0
        for identity, path in self.files.items():
            mask = read_mask(path, self.options, self.warn)
            mask = _without(mask, self.options.void)
            ids = np.unique(mask)
            if len(ids[ids > 0]) > 1:
                raise DataError(f"{path}: {len(ids[ids > 0])} objects, in a file that stands for object {identity}")
            out = np.zeros(mask.shape, np.int32) if out is None else out
            overlap += int(((out > 0) & (mask > 0)).sum())
            out[mask > 0] = identity
        assert out is not None, "a frame has at least one file"
        if overlap:
            self.warn("overlap", f"{self.source}: objects overlap on {overlap} pixels; higher ids are in front")
        return out


@dataclass(frozen=True)
class AnnotationMask:
    """The objects of an image in an annotation file.

    Attributes:
        image: The objects.
        ids: Their ids.
    """

    image: AnnotatedImage
    ids: Sequence[int]

    @property
    def source(self) -> str:
        """See `GivenMask.source`."""
        return self.image.source

    def size(self) -> tuple[int, int] | None:
        """See `GivenMask.size`."""
        return self.image.size

    def labels(self, size: tuple[int, int] | None) -> NDArray[np.int32]:
        """See `GivenMask.labels`."""
        if size is None and self.image.size is None:
            raise DataError(f"{self.source}: fractions of an image of unknown size; give the video as a file or folder")
        return self.image.labels(self.ids, size or (0, 0))


@dataclass(frozen=True)
class ArrayMask:
    """A label map in memory.

    Attributes:
        array: H W.
        source: Frame, for messages.
    """

    array: NDArray[np.integer]
    source: str

    def size(self) -> tuple[int, int] | None:
        """See `GivenMask.size`."""
        return self.array.shape[0], self.array.shape[1]

    def labels(self, size: tuple[int, int] | None) -> NDArray[np.integer]:
        """See `GivenMask.labels`."""
        return self.array


def _without(mask: NDArray[np.int32], void: int | None) -> NDArray[np.int32]:
    """Drop void beside an object; a file with nothing else is white on black."""
    rest = np.where(mask == void, np.int32(0), mask) if void is not None else mask
    return rest if rest.any() else mask
