"""How good masks from a few clicks are: GrabCut on the first frames of DAVIS 2016, against polygons.

    python -m benchmarks.proposals data=DAVIS [sequences=50]

A box around the object, then up to five clicks, each in the middle of the largest error. Polygons have their corners at
equal distances along the outline of the largest part. Rows hold the mean IoU, the least, and the share of at least 0.8.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.goals import options, start
from voslab.data.sources.davis import davis
from voslab.studio.proposer import Click, GrabCut, Prompt

DEFAULTS = {"data": "data/DAVIS", "sequences": "50"}
CLICKS = 5

Mask = NDArray[np.bool_]


def main() -> None:
    """Print a row per kind of input."""
    cv2.setNumThreads(1)
    given = options(DEFAULTS)
    root = Path(given["data"])
    videos = [*davis(root, year=2016, split="train"), *davis(root, year=2016, split="val")][: int(given["sequences"])]
    rows: dict[str, list[float]] = {}
    for video in videos:
        labels = video.labels(0)
        assert labels is not None
        truth = labels == 1
        for name, value in (*clicked(video.image(0), truth), *polygons(truth)):
            rows.setdefault(name, []).append(value)
    print(f"{len(videos)} first frames: mean IoU, least IoU, share with IoU >= 0.8")
    for name, values in rows.items():
        print(f"{name:<20} {np.mean(values):.3f}  {np.min(values):.3f}  {np.mean(np.array(values) >= 0.8):.2f}")


def clicked(image: NDArray[np.uint8], truth: Mask) -> list[tuple[str, float]]:
    """IoU after a box and after each of the clicks."""
    rows, columns = np.nonzero(truth)
    box = (float(columns.min()), float(rows.min()), columns.max() + 1.0, rows.max() + 1.0)
    prompt, proposer = Prompt(box=box), GrabCut()
    results = []
    for count in range(CLICKS + 1):
        mask = proposer.propose(image, prompt)
        results.append(("box" if count == 0 else f"box and {count} click{'s' * (count > 1)}", iou(mask, truth)))
        x, y = middle_of_largest_error(mask, truth)
        prompt = Prompt([*prompt.clicks, Click(x, y, bool(truth[y, x]))], box)
    return results


def middle_of_largest_error(mask: Mask, truth: Mask) -> tuple[int, int]:
    """Column and row of the pixel farthest from the border of the largest region of false pixels."""
    largest, place = 0.0, (0, 0)
    for wrong in (mask & ~truth, truth & ~mask):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8))
        if count < 2:
            continue
        region = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        if stats[region, cv2.CC_STAT_AREA] > largest:
            largest = stats[region, cv2.CC_STAT_AREA]
            inside = np.pad((labels == region).astype(np.uint8), 1)
            distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
            y, x = np.unravel_index(int(distance.argmax()), distance.shape)
            place = int(x), int(y)
    return place


def polygons(truth: Mask) -> list[tuple[str, float]]:
    """IoU of polygons with 8 and 16 corners."""
    outlines, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(outlines, key=cv2.contourArea)[:, 0]
    results = []
    for corners in (8, 16):
        chosen = outline[np.linspace(0, len(outline), corners, endpoint=False).astype(int)]
        mask = np.zeros(truth.shape, np.uint8)
        cv2.fillPoly(mask, [chosen], 1)
        results.append((f"polygon of {corners}", iou(mask > 0, truth)))
    return results


def iou(mask: Mask, truth: Mask) -> float:
    """Intersection over union."""
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))


if __name__ == "__main__":
    start(main)
