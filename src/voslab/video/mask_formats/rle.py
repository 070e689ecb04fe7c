"""Reads and writes the segmentations of COCO files: polygons, run lengths, and compressed run lengths (RLE)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from voslab.core import DataError

_MAX_PIXELS = 10**8  # of an image
_MAX_COORDINATE = 10**5  # of a polygon's corner, in pixels
# Base 32: up to six digits with the continuation bit, then one without.
_COMPRESSED = re.compile(rb"(?:[P-o]{0,6}[0-O])*")


@dataclass(frozen=True)
class Runs:
    """The objects of one frame as compressed run lengths.

    Attributes:
        size: H, W.
        objects: id and compressed run lengths of each object, from back to front.
        source: file and location of the annotation, for messages.
    """

    size: tuple[int, int]
    objects: tuple[tuple[int, bytes], ...]
    source: str

    def labels(self) -> NDArray[np.int32]:
        """Return the label map H W, 0 for background; where objects overlap, the later one wins.

        Raises:
            DataError: if run lengths do not describe a mask of this size.
        """
        out = np.zeros(self.size, np.int32)
        for identity, counts in self.objects:
            out[decode(counts, self.size, f"{self.source}, object {identity}")] = identity
        return out


def pack(segmentation: Any, size: tuple[int, int], source: str) -> bytes:
    """Compress a segmentation in any of COCO's formats.

    Args:
        segmentation: list of polygons [x0, y0, x1, …], or {"size": [H, W], "counts": list or compressed string}.
        size: H, W of the image.
        source: file and location of the annotation, for messages.

    Returns:
        Compressed run lengths.

    Raises:
        DataError: if the segmentation is malformed or has another size.

    Example:
        >>> pack({"size": [2, 2], "counts": [1, 2, 1]}, (2, 2), "annotation 1")
        b'121'
    """
    if min(size) < 1 or size[0] * size[1] > _MAX_PIXELS:
        raise DataError(f"{source}: the image is {size}")
    try:
        if isinstance(segmentation, list):
            return _pack_polygons(segmentation, size)
        declared, counts = tuple(segmentation["size"]), segmentation["counts"]
        if declared != size:
            raise DataError(f"{source}: runs of size {declared}, the image is {size}")
        if isinstance(counts, list):
            return _pack_counts(counts, size, source)
        compressed = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{source}: no segmentation ({type(error).__name__}: {error})") from error
    _check_total(_run_lengths(compressed, source), size, source)
    return compressed


def encode(mask: NDArray[np.bool_]) -> str:
    """Compress a mask for a COCO file.

    Args:
        mask: Mask, H W.

    Returns:
        Compressed run lengths.

    Example:
        >>> encode(np.array([[False, True], [True, False]]))
        '121'
    """
    counts: bytes = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
    return counts.decode("ascii")


def decode(counts: bytes, size: tuple[int, int], source: str) -> NDArray[np.bool_]:
    """Decompress a mask.

    Args:
        counts: compressed run lengths.
        size: H, W.
        source: file and location of the annotation, for messages.

    Returns:
        Mask H W.

    Raises:
        DataError: if the run lengths are malformed or do not fill exactly H x W pixels.

    Example:
        >>> decode(b"121", (2, 2), "annotation 1").tolist()
        [[False, True], [True, False]]
    """
    runs = _run_lengths(counts, source)
    _check_total(runs, size, source)
    # Faster than the decoder of pycocotools, which does not check that the mask is filled.
    return np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(size[::-1]).T


def area(counts: bytes, source: str) -> int:
    """Return the number of pixels of a mask.

    Args:
        counts: compressed run lengths.
        source: file and location of the annotation, for messages.

    Returns:
        Area in pixels.

    Raises:
        DataError: if the run lengths are malformed.

    Example:
        >>> area(b"121", "annotation 1")
        2
    """
    return int(_run_lengths(counts, source)[1::2].sum())


def _pack_polygons(polygons: list[Any], size: tuple[int, int]) -> bytes:
    flat = [np.asarray(polygon, np.float64) for polygon in polygons]
    if not flat or any(p.ndim != 1 or p.size < 6 or p.size % 2 or not np.isfinite(p).all() for p in flat):
        raise ValueError("polygons need three or more pairs of finite numbers")
    # pycocotools visits every pixel along an edge, even far outside the image.
    if any(np.abs(p).max() > _MAX_COORDINATE for p in flat):
        raise ValueError(f"a polygon reaches further than {_MAX_COORDINATE} pixels")
    parts = coco_mask.frPyObjects([p.tolist() for p in flat], *size)
    compressed: bytes = coco_mask.merge(parts)["counts"]
    return compressed


def _pack_counts(counts: list[Any], size: tuple[int, int], source: str) -> bytes:
    runs = np.asarray(counts)
    if runs.ndim != 1 or runs.dtype.kind not in "iu" or (runs.size and runs.min() < 0):
        raise ValueError("counts must be whole numbers, none negative")
    _check_total(runs, size, source)
    compressed: bytes = coco_mask.frPyObjects({"size": list(size), "counts": runs.tolist()}, *size)["counts"]
    return compressed


def _check_total(runs: NDArray[Any], size: tuple[int, int], source: str) -> None:
    """Raise `DataError` unless the runs fill a mask exactly, which pycocotools does not check."""
    total, pixels = int(runs.sum()), size[0] * size[1]
    # With the bound on every run, the sum cannot overflow.
    if total != pixels or runs.max(initial=0) > pixels:
        raise DataError(f"{source}: runs of {total} pixels for a mask of {size[0]} x {size[1]}")


def _run_lengths(counts: bytes, source: str) -> NDArray[np.int64]:
    """Decompress run lengths; from the fourth on they are differences from the last but one.

    Raises:
        DataError: for an invalid character, a string cut short, a number beyond any image, or a negative run.
    """
    if not _COMPRESSED.fullmatch(counts):
        raise DataError(f"{source}: compressed runs with an invalid character or number, or cut short")
    if not counts:
        return np.zeros(0, np.int64)
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(digits < 32)
    starts = np.concatenate([[0], ends[:-1] + 1])
    values = digits & 31
    values[ends] = (values[ends] ^ 16) - 16  # the last digit of a number has its sign
    places = np.arange(digits.size) - np.repeat(starts, ends - starts + 1)
    runs: NDArray[np.int64] = np.add.reduceat(values << 5 * places, starts)
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    if runs.min() < 0:
        raise DataError(f"{source}: compressed runs with a negative run")
    return runs
