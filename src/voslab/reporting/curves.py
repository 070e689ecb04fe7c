"""Reads training curves from the files of the CSV logger."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
POINTS = 60
"""Maximum number of points of a drawn curve; longer curves are averaged over equal parts."""


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not text.
    """
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def points(rows: list[dict[str, str]], name: str) -> tuple[Values, Values]:
    """Return the steps at which a metric was logged and finite, and its values.

    Args:
        rows: rows of a CSV file; the cell of a metric is empty in rows where it was not logged.
        name: the metric.

    Raises:
        KeyError: if the file has no column of that name, or no column `step`.
        ValueError: if a cell is not a number.
    """
    cells = [(float(row["step"]), float(row[name])) for row in rows if row[name]]
    # A step whose loss was NaN or infinite has no place on an axis.
    pairs = [cell for cell in cells if all(map(math.isfinite, cell))]
    return np.array([step for step, _ in pairs]), np.array([value for _, value in pairs])


def downsample(values: Values, count: int = POINTS) -> Values:
    """Average a curve over `count` consecutive parts; a shorter curve is returned unchanged.

    Example:
        >>> downsample(np.array([1.0, 3.0, 5.0, 7.0]), 2).tolist()
        [2.0, 6.0]
    """
    parts = np.array_split(values, max(1, min(count, len(values))))
    return np.array([part.mean() for part in parts if len(part)])
