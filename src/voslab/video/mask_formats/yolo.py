"""Reads given masks from YOLO polygons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voslab.core import DataError
from voslab.video.mask_formats.annotations import AnnotatedImage, Annotation

_MAX_BYTES = 1 << 26
_BOX = 4  # numbers of a line that describes a box
_TOLERANCE = 0.05  # by which tools let polygons leave the image


def read_yolo(path: Path) -> AnnotatedImage:
    """Read a file with one object per line: its class, and the corners of a polygon as fractions of width and height.

    Args:
        path: The file.

    Returns:
        The image, without a size; the key of an object is its class.

    Raises:
        DataError: If the file cannot be read, or a line is not a polygon.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: more than {_MAX_BYTES >> 20} MiB, too much for the polygons of one image")
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file; YOLO polygons are lines of a class and coordinates") from None
    rows = ((number, line.split()) for number, line in enumerate(lines, 1) if line.strip())
    return AnnotatedImage(str(path), path.stem, None, tuple(_object(f"{path}: line {n}", row) for n, row in rows))


def _object(source: str, row: list[str]) -> Annotation:
    try:
        kind, values = int(row[0]), np.array([float(value) for value in row[1:]])
    except (ValueError, OverflowError):
        raise DataError(f"{source}: not a class and coordinates, as YOLO writes them") from None
    if values.size == _BOX:
        raise DataError(f"{source}: a box; objects need polygons (the segmentation format of YOLO)")
    if values.size < 6 or values.size % 2:
        raise DataError(f"{source}: {values.size} coordinates; a polygon has three or more pairs")
    if not (np.isfinite(values).all() and (np.abs(values - 0.5) <= 0.5 + _TOLERANCE).all()):
        raise DataError(f"{source}: coordinates must be fractions of the image, from 0 to 1")
    return Annotation(f"class {kind}", [values.clip(0, 1).tolist()], str(kind))
