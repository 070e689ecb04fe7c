"""Samples the frames of a clip and its target objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voslab.core import VOID, ConfigError, DataError


@dataclass(frozen=True)
class Curriculum:
    """Maximum gap between sampled frames: starts at `start` and grows by `step` every `every` epochs, up to `cap`.

    >>> [Curriculum(start=1, step=5, every=20, cap=26).max_gap(epoch) for epoch in (0, 19, 20, 1000)]
    [1, 1, 6, 26]
    """

    start: int
    step: int
    every: int
    cap: int

    def __post_init__(self) -> None:
        if self.start < 1 or self.step < 0 or self.every < 1 or self.cap < self.start:
            raise ConfigError(f"{self}: needs start >= 1, step >= 0, every >= 1 and cap >= start")

    def max_gap(self, epoch: int) -> int:
        """Return the maximum gap in frames for an epoch."""
        return min(self.start + self.step * (epoch // self.every), self.cap)


@dataclass(frozen=True)
class Milestones:
    """Maximum gap between sampled frames, piecewise constant, as (first epoch, gap) pairs; the first epoch is 0.

    >>> [Milestones(((0, 5), (10, 25), (90, 5))).max_gap(epoch) for epoch in (0, 9, 10, 89, 90)]
    [5, 5, 25, 25, 5]
    """

    gaps: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        epochs = [epoch for epoch, _ in self.gaps]
        if not epochs or epochs[0] != 0 or epochs != sorted(set(epochs)) or min(gap for _, gap in self.gaps) < 1:
            raise ConfigError(f"gaps={self.gaps}: needs (epoch, gap) pairs, epochs growing from 0, gaps from 1")

    def max_gap(self, epoch: int) -> int:
        """Return the maximum gap in frames for an epoch."""
        return [gap for start, gap in self.gaps if start <= epoch][-1]


def sample_frames(
    length: int,
    frames: int,
    rng: np.random.Generator,
    gap: tuple[int, int] = (1, 1),
    reverse: float = 0.0,
    name: str = "video",
) -> tuple[int, ...]:
    """Sample frame indices with random gaps. If the gaps do not fit into the video, the largest are reduced.

    Args:
        length: Number of frames of the video.
        frames: Number of indices.
        rng: Random generator.
        gap: Minimum and maximum gap.
        reverse: Probability of descending order.
        name: Name of the video, for the error message.

    Returns:
        Indices of the frames.

    Raises:
        DataError: If the video has fewer than `frames` frames.
    """
    if length < frames:
        raise DataError(f"{name}: {length} frames, too short for a clip of {frames}")
    minimum, maximum = gap
    gaps = rng.integers(minimum, max(minimum, maximum) + 1, frames - 1)
    while gaps.sum() >= length:
        gaps[gaps.argmax()] -= 1
    start = int(rng.integers(0, length - gaps.sum()))
    indices = (start, *(start + gaps.cumsum()).tolist())
    return indices[::-1] if rng.random() < reverse else indices


def choose_objects(
    labels: NDArray[np.integer], limit: int, rng: np.random.Generator, min_area: int = 1, void: int | None = VOID
) -> tuple[int, ...]:
    """Choose objects of a label map at random.

    Args:
        labels: Label map, H W.
        limit: Maximum number of objects.
        rng: Random generator.
        min_area: Minimum area in pixels.
        void: Label of void pixels; None if there are none.

    Returns:
        Ids of the objects, in random order.
    """
    ids, areas = np.unique(labels, return_counts=True)
    candidates = ids[(ids != 0) & (areas >= min_area)]
    candidates = candidates if void is None else candidates[candidates != void]
    return tuple(rng.permutation(candidates)[:limit].tolist())
