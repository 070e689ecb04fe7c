"""Masks as COCO writes them: polygons, runs as numbers, runs packed into a string. Packed by pycocotools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from voslab.core import DataError

_LARGEST = 10**8  # pixels of an image
_FARTHEST = 10**5  # pixels from the first row or column


@dataclass(frozen=True)
class Runs:
    """The objects of one frame, each as packed runs.

    Attributes:
        size: H, W.
        objects: id and packed runs of each object, from back to front.
        source: file and place they came from, for messages.
    """

    size: tuple[int, int]
    objects: tuple[tuple[int, bytes], ...]
    source: str

    def labels(self) -> NDArray[np.int32]:
        """Label map H W int32, 0 for background; where objects overlap, the later one wins.

        Raises:
            DataError: runs that are no mask of this size.
        """
        out = np.zeros(self.size, np.int32)
        for identity, counts in self.objects:
            out[decode(counts, self.size, f"{self.source}, object {identity}")] = identity
        return out


def pack(segmentation: Any, size: tuple[int, int], source: str) -> bytes:
    """A segmentation as COCO writes it (polygons, runs as numbers or packed) -> packed runs.

    Args:
        segmentation: list of polygons [x0, y0, x1, …], or {"size": [H, W], "counts": numbers or string}.
        size: H, W of the image.
        source: what to name in errors.

    Raises:
        DataError: anything else, or runs of another size.
    """
    if min(size) < 1 or size[0] * size[1] > _LARGEST:
        raise DataError(f"{source}: the image is {size}")
    try:
        if isinstance(segmentation, list):
            return _pack_polygons(segmentation, size)
        declared, counts = tuple(segmentation["size"]), segmentation["counts"]
        if declared != size:
            raise DataError(f"{source}: runs of size {declared}, the image is {size}")
        if isinstance(counts, list):
            return _pack_counts(counts, size)
        packed = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{source}: no segmentation ({type(error).__name__}: {error})") from error
    decode(packed, size, source)
    return packed


def encode(mask: NDArray[np.bool_]) -> str:
    """Mask H W -> packed runs, as COCO's files hold them."""
    counts: bytes = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
    return counts.decode("ascii")


def decode(counts: bytes, size: tuple[int, int], source: str) -> NDArray[np.bool_]:
    """Packed runs -> mask H W.

    Raises:
        DataError: runs that do not fill exactly H x W pixels.
    """
    runs = _unpack(counts, source)
    if int(runs.sum()) != size[0] * size[1]:
        raise DataError(f"{source}: runs of {int(runs.sum())} pixels for a mask of {size[0]} x {size[1]}")
    return np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(size[::-1]).T


def area(counts: bytes, source: str) -> int:
    """Pixels of a mask. Raises `DataError` as `decode`."""
    return int(_unpack(counts, source)[1::2].sum())


def _pack_polygons(polygons: list[Any], size: tuple[int, int]) -> bytes:
    flat = [np.asarray(polygon, np.float64) for polygon in polygons]
    if not flat or any(p.ndim != 1 or p.size < 6 or p.size % 2 or not np.isfinite(p).all() for p in flat):
        raise ValueError("polygons need three or more pairs of finite numbers")
    # pycocotools walks along every edge, pixel by pixel, however far away it lies.
    if any(np.abs(p).max() > _FARTHEST for p in flat):
        raise ValueError(f"a polygon reaches further than {_FARTHEST} pixels")
    parts = coco_mask.frPyObjects([p.tolist() for p in flat], *size)
    packed: bytes = coco_mask.merge(parts)["counts"]
    return packed


def _pack_counts(counts: list[Any], size: tuple[int, int]) -> bytes:
    numbers = np.asarray(counts)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or (numbers.size and numbers.min() < 0):
        raise ValueError("counts must be whole numbers, none negative")
    if int(numbers.sum()) != size[0] * size[1]:
        raise ValueError(f"runs of {int(numbers.sum())} pixels for a mask of {size[0]} x {size[1]}")
    packed: bytes = coco_mask.frPyObjects({"size": list(size), "counts": numbers.tolist()}, *size)["counts"]
    return packed


def _unpack(counts: bytes, source: str) -> NDArray[np.int64]:
    """Run lengths from a packed string: base 32, lowest digit first; from the fourth on, steps from the last but one.

    Raises:
        DataError: a character that is no digit, a string that ends within a number, or a negative run.
    """
    digits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((digits & 32) == 0)
    if digits.size and (digits.min() < 0 or digits.max() > 63 or ends.size == 0 or ends[-1] != digits.size - 1):
        raise DataError(f"{source}: packed runs with a character that does not belong, or cut short")
    starts = np.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
    lengths = ends - starts + 1
    if lengths.size and lengths.max() > 7:
        raise DataError(f"{source}: packed runs with a number beyond any picture")
    places = np.arange(digits.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((digits & 31) << (5 * places), starts) if digits.size else np.zeros(0, np.int64)
    numbers = np.where(digits[ends] & 16, numbers - (np.int64(1) << (5 * lengths)), numbers) if digits.size else numbers
    # Runs of ones are 1, 3, 5, …, of zeros 2, 4, …; the very first stands alone.
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    if numbers.size and numbers.min() < 0:
        raise DataError(f"{source}: packed runs with a negative length")
    return numbers
