"""Slow and independent: what the metrics say in words, pixel by pixel. And masks to compare on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Points = list[tuple[int, int]]


def slow_jaccard(prediction: Mask, truth: Mask) -> float:
    a, b = ({(y, x) for y, x in np.argwhere(mask).tolist()} for mask in (prediction, truth))
    return len(a & b) / len(a | b) if a | b else 1.0


def slow_boundary(mask: Mask) -> Points:
    height, width = mask.shape
    pixels = mask.tolist()
    points = []
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [pixels[j][i] for j, i in neighbours if j < height and i < width]
            if any(value != pixels[y][x] for value in inside):
                points.append((y, x))
    return points


def _share_near(points: Points, targets: Points, radius: int) -> float:
    a, b = np.array(points).reshape(-1, 1, 2), np.array(targets).reshape(1, -1, 2)
    return float((((a - b) ** 2).sum(axis=2) <= radius**2).any(axis=1).mean())


def slow_boundary_f(prediction: Mask, truth: Mask, tolerance: float = 0.008) -> float:
    radius = math.ceil(tolerance * math.sqrt(prediction.shape[0] ** 2 + prediction.shape[1] ** 2))
    a, b = slow_boundary(prediction), slow_boundary(truth)
    if not a and not b:
        return 1.0
    precision, recall = (1.0, 0.0) if not a else (0.0, 1.0) if not b else (0.5, 0.5)
    if a and b:
        precision, recall = _share_near(a, b, radius), _share_near(b, a, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def slow_decay(series: Sequence[float]) -> float:
    edges = [math.floor(1 + Fraction(k * (len(series) - 1), 4) + Fraction(1, 2)) - 1 for k in range(5)]
    first, last = series[edges[0] : edges[1] + 1], series[edges[3] : edges[4] + 1]
    return math.fsum(first) / len(first) - math.fsum(last) / len(last)


@st.composite
def masks(draw: st.DrawFn, height: int, width: int) -> Mask:
    """Empty, full, one pixel, noise, or a few rectangles (many of which touch the border), perhaps inverted."""
    mask = np.zeros((height, width), np.bool_)
    kind = draw(st.sampled_from(["empty", "full", "pixel", "noise", "rectangles", "rectangles", "holes"]))
    if kind == "full":
        mask[:] = True
    elif kind == "pixel":
        mask[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = True
    elif kind == "noise":
        random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        mask = random.random((height, width)) < draw(st.sampled_from([0.02, 0.3, 0.9]))
    elif kind != "empty":
        for _ in range(draw(st.integers(1, 3))):
            top, bottom = sorted(draw(st.tuples(st.integers(0, height), st.integers(0, height))))
            left, right = sorted(draw(st.tuples(st.integers(0, width), st.integers(0, width))))
            mask[top:bottom, left:right] ^= True
        mask = mask if kind == "rectangles" else ~mask
    return mask


@st.composite
def pairs(draw: st.DrawFn, largest: int = 32) -> tuple[Mask, Mask]:
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    return draw(masks(height, width)), draw(masks(height, width))
