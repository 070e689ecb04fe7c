"""Refuses label images whose ids are no objects: anti-aliased edges and dithered colours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError

# Masks may have this many objects that are nowhere 3 pixels wide. A larger number indicates anti-aliased edges.
_MAX_THIN_IDS = 8
_MIN_SIDE = 16  # pixels; smaller images say nothing about edges
_MAX_SOLID_IDS = 64  # more are not searched for blends
_MIN_PHOTO_IDS, _MAX_TOUCHING = 4, 0.25  # fraction of links between objects that join different ones
_MIN_LINKS = 400  # links between neighbouring pixels, below which nothing is concluded
_MIN_GRADIENT_IDS, _MAX_STEP, _GRADIENT_SHARE = 16, 2, 0.9
_MIN_SPECKLE = 20  # pixels of an id that count as dithered
_MAX_MIXED = 0.2  # fraction of adjacent object pixels with different ids
_MIN_BLEND = 12  # pixels of blended ids between two objects
_BLEND_SHARE = 0.8  # of the pixels of a blended id lie between two objects
_COLOUR_TOLERANCE, _COLOUR_GAP = 24.0, 32.0
_SQUARE = np.ones((3, 3), np.uint8)
_WAY_OUT = "Save it without soft edges, as a palette PNG"


def check_labels(path: Path | str, labels: NDArray[np.integer], colours: NDArray[np.integer]) -> None:
    """Check that every id of a label image can be an object.

    Args:
        path: File, for the message.
        labels: Label map H W with ids from 0 to 65535; 0 is background.
        colours: Colour of each id up to the highest one, N C; for grey images the grey levels.

    Raises:
        DataError: If edges are anti-aliased, so that ids between two objects are blends of them, or if colours were
            dithered, so that ids are scattered over one object.

    Example:
        >>> check_labels("a.png", np.zeros((4, 4), np.uint8), np.zeros((1, 3), np.uint8))
    """
    narrow = np.ascontiguousarray(labels.astype(np.uint8 if int(labels.max()) < 256 else np.uint16))
    counts = _histogram(narrow)
    ids = np.flatnonzero(counts[1:]) + 1
    if len(ids) < 2 or min(labels.shape) < _MIN_SIDE:
        return
    flat = cv2.erode(narrow, _SQUARE) == cv2.dilate(narrow, _SQUARE)
    interior = np.bincount(narrow[flat], minlength=len(counts))
    thin = ids[interior[ids] == 0]
    if len(thin) > _MAX_THIN_IDS and 2 * len(thin) > len(ids):
        raise DataError(
            f"{path}: {len(ids)} ids, {len(thin)} of them nowhere 3 pixels wide: an anti-aliased mask? {_WAY_OUT}"
        )
    sparse = ids[10 * interior[ids] < counts[ids]]
    _check_dither(path, narrow, counts, sparse, len(ids))
    _check_regions(path, narrow, len(ids))
    solid = np.append(0, ids[interior[ids] > 0])
    if len(thin) > 0 and len(solid) <= _MAX_SOLID_IDS:
        _check_blends(path, narrow, colours.astype(np.float64), thin, solid)


def _histogram(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    if labels.dtype == np.uint8:  # OpenCV's histogram of bytes is ten times as fast as NumPy's
        counts: NDArray[np.int64] = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel().astype(np.int64)
        return counts
    return np.bincount(labels.reshape(-1))


def _check_regions(path: Path | str, labels: NDArray[np.integer], ids: int) -> None:
    """Raise `DataError` if neighbouring ids form a gradient, or objects touch nearly everywhere, as in a photo."""
    if ids < _MIN_PHOTO_IDS:
        return
    adjacent, steps = 0, []
    for a, b in _neighbours(labels):
        linked = (a > 0) & (b > 0)
        adjacent += int(linked.sum())
        step = np.abs(a[linked].astype(np.int32) - b[linked])
        steps.append(step[step > 0])
    mixed = np.concatenate(steps)
    small = float((mixed <= _MAX_STEP).mean()) if mixed.size else 0.0
    if mixed.size > _MAX_TOUCHING * adjacent and adjacent > _MIN_LINKS:
        raise DataError(f"{path}: {ids} ids that touch nearly everywhere: a photo? A mask has a few plain areas")
    if ids >= _MIN_GRADIENT_IDS and small >= _GRADIENT_SHARE and mixed.size > _MIN_LINKS:
        raise DataError(
            f"{path}: {ids} ids that form a gradient: soft edges without white? Paint the object white on black"
        )


def _check_dither(
    path: Path | str, labels: NDArray[np.integer], counts: NDArray[np.int64], sparse: NDArray[np.integer], ids: int
) -> None:
    """Raise `DataError` if ids without flat areas alternate with others, or are scattered pixels."""
    scattered = sparse[counts[sparse] >= _MIN_SPECKLE]
    if not len(scattered):
        return
    adjacent = mixed = 0
    # Only links between two of them: a thin object on top of a large one has no neighbour of its own kind either.
    linked_labels = np.where(np.isin(labels, scattered), labels, 0)
    for a, b in _neighbours(linked_labels):
        linked = (a > 0) & (b > 0)
        adjacent += int(linked.sum())
        mixed += int((linked & (a != b)).sum())
    alternate = mixed > _MAX_MIXED * max(1, adjacent) and mixed > counts[scattered].sum()
    speckled = [i for i in scattered.tolist() if 3 * _components(labels == i) >= counts[i]]
    if alternate or speckled:
        raise DataError(
            f"{path}: {ids} ids, {len(scattered)} of them scattered over others: dithered colours?"
            " Convert it without dithering, or save a palette PNG with the ids"
        )


def _components(part: NDArray[np.bool_]) -> int:
    count, _ = cv2.connectedComponents(part.astype(np.uint8), connectivity=8)
    return int(count) - 1


def _check_blends(
    path: Path | str,
    labels: NDArray[np.integer],
    colours: NDArray[np.float64],
    thin: NDArray[np.integer],
    solid: NDArray[np.integer],
) -> None:
    """Raise `DataError` if thin ids separate two solid ones and are between them in colour or value."""
    near = {int(i): cv2.dilate((labels == i).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0 for i in solid}
    where = {int(i): labels == i for i in thin}
    for first in solid.tolist():
        for second in solid[solid > first].tolist():
            both = near[first] & near[second]
            wide = float(np.abs(colours[first] - colours[second]).max()) >= _COLOUR_GAP
            inside = [i for i, pixels in where.items() if both[pixels].mean() >= _BLEND_SHARE]
            mixtures = [i for i in inside if wide and _between(colours[i], colours[first], colours[second])]
            # One thin object between two others is possible; several, in the order of their values, are not.
            ordered = [i for i in inside if first < i < second]
            blends = mixtures or (ordered if len(ordered) > 1 else [])
            size = sum(int(where[i].sum()) for i in blends)
            if blends and size >= max(_MIN_BLEND, _contacts(labels, first, second)):
                raise DataError(
                    f"{path}: {len(blends)} of its ids are blends of {first} and {second} along their border: an"
                    f" anti-aliased mask? {_WAY_OUT}"
                )


def _between(colour: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
    """Whether a colour is a mixture of two others."""
    line = second - first
    length = float(line @ line)
    if length == 0:
        return False
    share = float((colour - first) @ line) / length
    distance = float(np.abs(first + share * line - colour).max())
    return 0.02 < share < 0.98 and distance <= min(_COLOUR_TOLERANCE, length**0.5 / 4)


def _contacts(labels: NDArray[np.integer], first: int, second: int) -> int:
    """Return the number of adjacent pixels with these two ids."""
    return sum(
        int((((a == first) & (b == second)) | ((a == second) & (b == first))).sum()) for a, b in _neighbours(labels)
    )


def _neighbours(labels: NDArray[np.integer]) -> tuple[tuple[NDArray[np.integer], NDArray[np.integer]], ...]:
    """Return the label maps of horizontal and of vertical neighbours."""
    return (labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])
