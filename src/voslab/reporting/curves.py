"""Curves of a training, as the CSV logger writes them: a row per time something was logged, empty where it was not."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
POINTS = 60
"""Most points of a curve that is drawn: more are averaged in as many equal parts."""


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a csv file. Raises `OSError`, or `ValueError` for what is no text."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def points(rows: list[dict[str, str]], name: str) -> tuple[Values, Values]:
    """Steps at which a metric was logged, and its values.

    Raises:
        KeyError: the file has no such column, or none of steps.
        ValueError: something in it is no number.
    """
    pairs = [(float(row["step"]), float(row[name])) for row in rows if row[name]]
    return np.array([step for step, _ in pairs]), np.array([value for _, value in pairs])


def thinned(values: Values, count: int = POINTS) -> Values:
    """Means of consecutive parts, `count` of them; as they are where there are fewer."""
    parts = np.array_split(values, max(1, min(count, len(values))))
    return np.array([part.mean() for part in parts if len(part)])
