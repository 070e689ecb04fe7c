"""Samples smooth trajectories and slow changes of objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STEP = 8  # frames from one waypoint to the next


def random_walk(
    rng: np.random.Generator,
    frames: int,
    start: NDArray[np.floating],
    step: float,
    low: NDArray[np.floating],
    high: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Sample a smooth trajectory that keeps its direction and turns at the border of a box.

    Args:
        rng: Random generator.
        frames: Number of frames T.
        start: Start point (x, y).
        step: Distance between waypoints, which are eight frames apart.
        low: Smallest x and y of the box.
        high: Largest x and y of the box.

    Returns:
        Positions (x, y), T 2.
    """
    points = [np.clip(start, low, high)]
    heading = rng.uniform(0, 2 * np.pi)
    for _ in range(frames // _STEP + 2):
        turns = heading + rng.uniform(-1, 1, 16) * np.linspace(0.6, np.pi, 16)
        candidates = points[-1] + step * np.stack([np.cos(turns), np.sin(turns)], 1)
        inside = np.flatnonzero(((candidates >= low) & (candidates <= high)).all(1))
        chosen = int(inside[0]) if len(inside) else 0
        heading = turns[chosen]
        points.append(np.clip(candidates[chosen], low, high))
    # Catmull-Rom spline
    waypoints = np.stack([2 * points[0] - points[1], *points, 2 * points[-1] - points[-2]])
    time = np.arange(frames) / _STEP
    index, t = time.astype(int), (time % 1)[:, None]
    a, b, c, d = (waypoints[index + k] for k in range(4))
    spline: NDArray[np.float64] = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return spline


def excursion(
    rng: np.random.Generator, centre: NDArray[np.float64], aspect: float, margin: float
) -> NDArray[np.float64]:
    """Make a trajectory leave the image over the nearest side border and return.

    Args:
        rng: Random generator.
        centre: Trajectory (x, y), T 2.
        aspect: Width of the image divided by its height.
        margin: Distance from the border at the farthest point.

    Returns:
        The new trajectory, T 2.
    """
    frames = len(centre)
    first, last = rng.uniform(0.2, 0.4) * frames, rng.uniform(0.8, 1.0) * frames
    x = centre[int((first + last) / 2), 0]
    distance = -x - margin if x < aspect / 2 else aspect - x + margin
    phase = np.clip((np.arange(frames) - first) / (last - first), 0, 1)
    offset: NDArray[np.float64] = distance * np.sin(np.pi * phase) ** 2
    return centre + np.stack([offset, np.zeros(frames)], 1)


def wave(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Sample a slow oscillation.

    Args:
        rng: Random generator.
        frames: Number of frames T.

    Returns:
        Values in [-1, 1], T.
    """
    slow: NDArray[np.float64] = np.sin(rng.uniform(0, 2 * np.pi) + rng.uniform(0.1, 0.3) * np.arange(frames))
    return slow
