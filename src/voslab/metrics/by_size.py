"""Scores by the size of objects in a frame (CoVOS, supplement, Table 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError

STANDARD = 480 * 854
"""Pixels of the pictures in which sizes are counted: DAVIS at 480p."""

CLASSES = {"small": (0, 10_000), "medium": (10_000, 30_000), "large": (30_000, STANDARD + 1)}
"""Pixels of an object, from and below: small ones have less than 10k, large ones 30k and more."""


@dataclass(frozen=True, slots=True)
class SizeScore:
    """Means over the masks of one class of sizes; NaN where there is none.

    Attributes:
        name: of the class.
        masks: how many; each object counts once in every frame.
        region: mean J.
        boundary: mean F.
    """

    name: str
    masks: int
    region: float
    boundary: float

    @property
    def mean(self) -> float:
        """J&F."""
        return (self.region + self.boundary) / 2


def standard_areas(truth: NDArray[np.integer], objects: list[int]) -> NDArray[np.float64]:
    """Size of each object in a label map H W: pixels, as if the picture had 480 x 854 of them. O long."""
    areas = np.array([np.count_nonzero(truth == i) for i in objects], np.float64)
    return areas * (STANDARD / max(truth.size, 1))


def score_by_size(scores: NDArray[np.float64], areas: NDArray[np.float64]) -> tuple[SizeScore, ...]:
    """Mean scores of small, medium and large masks, and of all of them.

    The mean is over masks, as in the paper, not over objects; absent objects (of size 0) are left out.

    Args:
        scores: N x 2: J and F of an object in a frame.
        areas: N, from `standard_areas`.

    Raises:
        DataError: if there is not one size to each pair of scores.
    """
    if scores.shape != (len(areas), 2):
        raise DataError(f"{len(areas)} sizes of masks, but scores of shape {scores.shape}")
    return tuple(_classes(scores, areas))


def _classes(scores: NDArray[np.float64], areas: NDArray[np.float64]) -> Iterator[SizeScore]:
    for name, (low, high) in {**CLASSES, "all": (0, np.inf)}.items():
        inside = scores[(areas >= low) & (areas < high) & (areas > 0)]
        region, boundary = inside.mean(axis=0).tolist() if len(inside) else (float("nan"), float("nan"))
        yield SizeScore(name, len(inside), region, boundary)
