"""Computes scores by the size of objects in a frame (CoVOS, supplement, Table 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError

STANDARD = 480 * 854
"""Pixels of the image in which sizes are counted: DAVIS at 480p."""

CLASSES = {"small": (0, 10_000), "medium": (10_000, 30_000), "large": (30_000, STANDARD + 1)}
"""Size classes: inclusive lower and exclusive upper bound in pixels."""


@dataclass(frozen=True, slots=True)
class SizeScore:
    """Mean scores of the masks of one size class; NaN if there are none.

    Attributes:
        name: name of the class.
        masks: number of masks; each object counts once per frame.
        region: mean J.
        boundary: mean F.
    """

    name: str
    masks: int
    region: float
    boundary: float

    @property
    def mean(self) -> float:
        """Mean of J and F."""
        return (self.region + self.boundary) / 2


def standard_areas(truth: NDArray[np.integer], objects: list[int]) -> NDArray[np.float64]:
    """Compute object sizes in pixels, scaled to an image of 480 x 854 pixels.

    Args:
        truth: label map, H x W.
        objects: ids of O objects.

    Returns:
        Sizes, O.

    Example:
        >>> import numpy as np
        >>> from voslab.metrics import standard_areas
        >>> truth = np.zeros((240, 427), int)
        >>> truth[:10, :10] = 1
        >>> standard_areas(truth, [1, 2]).tolist()
        [400.0, 0.0]
    """
    areas = np.array([np.count_nonzero(truth == i) for i in objects], np.float64)
    return areas * (STANDARD / max(truth.size, 1))


def score_by_size(scores: NDArray[np.float64], areas: NDArray[np.float64]) -> tuple[SizeScore, ...]:
    """Compute mean scores of small, medium and large masks, and of all masks.

    The mean is over masks, as in the paper, not over objects. Absent objects (size 0) are ignored.

    Args:
        scores: J and F of each mask, N x 2.
        areas: sizes from `standard_areas`, N.

    Returns:
        Scores of the classes `small`, `medium`, `large` and `all`.

    Raises:
        DataError: if the numbers of sizes and scores differ.

    Example:
        >>> import numpy as np
        >>> from voslab.metrics import score_by_size
        >>> scores = np.array([[0.5, 0.7], [0.9, 0.9]])
        >>> [(s.name, s.masks, round(s.mean, 2)) for s in score_by_size(scores, np.array([400.0, 50000.0]))]
        [('small', 1, 0.6), ('medium', 0, nan), ('large', 1, 0.9), ('all', 2, 0.75)]
    """
    if scores.shape != (len(areas), 2):
        raise DataError(f"{len(areas)} sizes of masks, but scores of shape {scores.shape}")
    return tuple(_classes(scores, areas))


def _classes(scores: NDArray[np.float64], areas: NDArray[np.float64]) -> Iterator[SizeScore]:
    for name, (low, high) in {**CLASSES, "all": (0, np.inf)}.items():
        inside = scores[(areas >= low) & (areas < high) & (areas > 0)]
        region, boundary = inside.mean(axis=0).tolist() if len(inside) else (float("nan"), float("nan"))
        yield SizeScore(name, len(inside), region, boundary)
