"""What a user would do next to correct a mask: a click in a compact region, a stroke of the brush along a long one."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.proposals import middle_of_largest_error

Mask = NDArray[np.bool_]
LONG = 4.0
"""A region is long if the path through it is longer than this many times its largest width."""


@dataclass(frozen=True)
class Correction:
    """A correction of a mask.

    Attributes:
        points: Columns and rows: one point is a click, several are a stroke.
        positive: Whether pixels are added.
        diameter: Of the brush in pixels.
    """

    points: list[tuple[int, int]]
    positive: bool
    diameter: int


def next_correction(mask: Mask, truth: Mask) -> Correction:
    """Return the correction of the largest error: a stroke along its axis if it is long, else a click in its middle."""
    x, y = middle_of_largest_error(mask, truth)
    positive = bool(truth[y, x])
    _, labels = cv2.connectedComponents(((mask != truth) & (truth == positive)).astype(np.uint8))
    region = labels == labels[y, x]
    depth = cv2.distanceTransform(np.pad(region.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    start = _path(depth, (y, x))[-1]
    path = _path(depth, start)
    if len(path) <= LONG * 2 * depth[y, x]:
        return Correction([(x, y)], positive, 0)
    radius = float(np.median([depth[place] for place in path]))
    inside = [place for place in path if depth[place] >= radius / 2]
    kept = [*inside[:: max(2, round(radius))], inside[-1]]
    return Correction([(int(column), int(row)) for row, column in kept], positive, max(2, round(2 * radius)))


def _path(depth: NDArray[np.float32], start: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the cheapest path to the farthest pixel of a region; pixels in its middle are cheap."""
    cost, before = {start: 0.0}, {start: start}
    length = {start: 0}
    queue = [(0.0, start)]
    while queue:
        spent, place = heapq.heappop(queue)
        if spent > cost[place]:
            continue
        for step in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            row, column = place[0] + step[0], place[1] + step[1]
            if not (0 <= row < depth.shape[0] and 0 <= column < depth.shape[1]) or depth[row, column] <= 0:
                continue
            total = spent + float(np.hypot(*step)) / float(depth[row, column])
            if total < cost.get((row, column), np.inf):
                cost[row, column], before[row, column] = total, place
                length[row, column] = length[place] + 1
                heapq.heappush(queue, (total, (row, column)))
    place = max(length, key=lambda each: length[each])
    path = [place]
    while path[-1] != start:
        path.append(before[path[-1]])
    return path[::-1]
