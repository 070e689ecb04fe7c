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
    """T 2: a smooth walk with `step` per waypoint that keeps its heading, turning where it would leave the box."""
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
    way = np.stack([2 * points[0] - points[1], *points, 2 * points[-1] - points[-2]])
    time = np.arange(frames) / _STEP
    at, t = time.astype(int), (time % 1)[:, None]
    a, b, c, d = (way[at + k] for k in range(4))
    spline: NDArray[np.float64] = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return spline


def excursion(
    rng: np.random.Generator, centre: NDArray[np.float64], aspect: float, margin: float
) -> NDArray[np.float64]:
    """Lead a path out of the picture, over the nearest side border, and back."""
    frames = len(centre)
    first, last = rng.uniform(0.2, 0.4) * frames, rng.uniform(0.8, 1.0) * frames
    x = centre[int((first + last) / 2), 0]
    out = -x - margin if x < aspect / 2 else aspect - x + margin
    phase = np.clip((np.arange(frames) - first) / (last - first), 0, 1)
    away: NDArray[np.float64] = out * np.sin(np.pi * phase) ** 2
    return centre + np.stack([away, np.zeros(frames)], 1)


def wave(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """T: slow change in [-1, 1]."""
    slow: NDArray[np.float64] = np.sin(rng.uniform(0, 2 * np.pi) + rng.uniform(0.1, 0.3) * np.arange(frames))
    return slow
