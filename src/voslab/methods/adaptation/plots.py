"""Draws grids of images and loss curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from voslab.core import atomic_path

Image = NDArray[np.uint8]
_GAP = 4  # pixels between images
_WIDTH, _HEIGHT, _EDGE = 480, 140, 24  # pixels of a curve


def tile_rows(rows: Sequence[Sequence[Image]]) -> Image:
    """Tile images into a grid.

    Args:
        rows: images H W 3 of one size; all rows have the same number.

    Returns:
        the grid, with white gaps.
    """
    padding = ((0, _GAP), (0, _GAP), (0, 0))
    return np.vstack([np.hstack([np.pad(image, padding, constant_values=255) for image in row]) for row in rows])


def curves(values: Mapping[str, Sequence[float]]) -> Image:
    """Plot curves below each other, each with its first, last and largest value in the title.

    Args:
        values: values by step, by the name of the curve.

    Returns:
        H W 3, RGB.
    """
    return np.vstack([_curve(name, np.asarray(series, np.float64)) for name, series in values.items()])


def save(path: Path, image: Image) -> None:
    """Write a PNG atomically.

    Raises:
        WriteError: if the file cannot be written.
    """
    with atomic_path(path) as temporary:
        Pillow.fromarray(image).save(temporary, format="PNG")


def _curve(name: str, values: NDArray[np.float64]) -> Image:
    drawn = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    finite = np.nan_to_num(values, nan=0.0, posinf=0.0)
    top = max(float(finite.max()), 1e-12)
    x = _EDGE + np.linspace(0, _WIDTH - 2 * _EDGE, len(values))
    y = _HEIGHT - _EDGE - finite / top * (_HEIGHT - 2 * _EDGE)
    cv2.line(drawn, (_EDGE, _HEIGHT - _EDGE), (_WIDTH - _EDGE, _HEIGHT - _EDGE), (180, 180, 180))
    cv2.polylines(drawn, [np.rint(np.stack([x, y], 1)).astype(np.int32)], False, (200, 60, 20), 2, cv2.LINE_AA)
    label = f"{name}: {values[0]:.4g} to {values[-1]:.4g}, at most {top:.4g}, {len(values) - 1} steps"
    cv2.putText(drawn, label, (_EDGE, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return drawn
