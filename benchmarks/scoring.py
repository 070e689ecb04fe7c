"""J and F of masks against a plain reference, which gives the same bits.

    python -m benchmarks.scoring [sequences=3] [rounds=3] [data=DIR]

Every mask of some DAVIS 2016 val sequences at 480p against the one three frames later. The reference is the definition
in NumPy with one `cv2.dilate` of the whole image per mask. The second row shares the masks out to two processes, as
`trainer=ddp_cpu` does with sequences; the third scores files as `src.evaluate predictions=…` does, which reads ahead.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.goals import Goal, interleaved, options, start
from voslab.data.sources.davis import davis
from voslab.metrics import boundary_f, jaccard
from voslab.training.predictions import read_predictions

DEFAULTS = {"sequences": "3", "rounds": "3", "data": f"{os.environ.get('VOS_DATA', 'data')}/DAVIS"}
Mask = NDArray[np.bool_]
_PAIRS: list[tuple[Mask, Mask]] = []


def main() -> None:
    """Print the rows."""
    given = options(DEFAULTS)
    cv2.setNumThreads(1)
    pairs = list(_pairs(given["data"], int(given["sequences"])))
    ours = [_ours(pair) for pair in pairs]
    plain = [(reference_j(a, b), reference_f(a, b)) for a, b in pairs]
    assert ours == plain, "the same bits"
    best = interleaved(
        {
            "ours": lambda: [_ours(pair) for pair in pairs],
            "reference": lambda: [(reference_j(a, b), reference_f(a, b)) for a, b in pairs],
        },
        int(given["rounds"]),
    )
    each = {name: seconds / len(pairs) * 1e3 for name, seconds in best.items()}
    note = f"{each['ours']:.2f} ms a mask against {each['reference']:.2f} ms, {len(pairs)} masks, one core"
    Goal("J and F, times as fast", best["reference"] / best["ours"], 5, "least", note).show()
    with ProcessPoolExecutor(2, get_context("fork"), initializer=_take, initargs=(pairs,)) as pool:
        best = interleaved(
            {
                "both": lambda: list(pool.map(_half, range(2))),
                "reference": lambda: [(reference_j(a, b), reference_f(a, b)) for a, b in pairs],
            },
            int(given["rounds"]),
        )
    note = f"{best['both'] / len(pairs) * 1e3:.2f} ms a mask"
    Goal("J and F in two processes, times as fast", best["reference"] / best["both"], 10, "least", note).show()
    files(given["data"], int(given["sequences"]), int(given["rounds"]))


def files(root: str, count: int, rounds: int) -> None:
    """Masks from files: the truth itself as predictions, read and scored, against reading one by one."""
    videos = list(islice(davis(root, 2016, "val"), count))
    folder = videos[0].images[0].parents[3] / "Annotations" / "480p"
    frames = sum(len(video) for video in videos)

    def ours() -> None:
        for video in videos:
            for prediction in read_predictions(folder, video):
                truth = video.labels(prediction.index)
                assert truth is not None
                _ours((prediction.ids > 0, truth > 0))

    def plain() -> None:
        for video in videos:
            for index in range(len(video)):
                masks = [video.labels(index) for _ in range(2)]
                a, b = (mask > 0 for mask in masks if mask is not None)
                reference_j(a, b), reference_f(a, b)

    best = interleaved({"ours": ours, "plain": plain}, rounds)
    note = f"{best['ours'] / frames * 1e3:.1f} ms a frame against {best['plain'] / frames * 1e3:.1f} ms"
    Goal("reading and scoring files, times as fast", best["plain"] / best["ours"], 2, "least", note).show()


def _take(pairs: list[tuple[Mask, Mask]]) -> None:
    """Give a process the masks, as it would have read them itself."""
    _PAIRS.extend(pairs)


def _half(which: int) -> list[tuple[float, float]]:
    return [_ours(pair) for pair in _PAIRS[which::2]]


def _ours(pair: tuple[Mask, Mask]) -> tuple[float, float]:
    return jaccard(*pair), boundary_f(*pair)


def _pairs(root: str, count: int) -> Iterator[tuple[Mask, Mask]]:
    for sequence in islice(davis(root, 2016, "val"), count):
        labels = (sequence.labels(index) for index in range(len(sequence)))
        masks = [truth > 0 for truth in labels if truth is not None]
        yield from zip(masks[:-3], masks[3:], strict=True)


def reference_j(a: Mask, b: Mask) -> float:
    """Intersection over union."""
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 1.0


def reference_f(a: Mask, b: Mask, tolerance: float = 0.008) -> float:
    """F measure of the boundaries, step by step."""
    radius = math.ceil(tolerance * math.hypot(*a.shape))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x * x + y * y <= radius * radius).astype(np.uint8)
    edges = [_edges(mask) for mask in (a, b)]
    near = [cv2.dilate(edge.astype(np.uint8), disk) > 0 for edge in edges]
    counts = [int(edge.sum()) for edge in edges]
    if 0 in counts:
        return float(counts[0] == counts[1])
    precision = 1 - int((edges[0] & ~near[1]).sum()) / counts[0]
    recall = 1 - int((edges[1] & ~near[0]).sum()) / counts[1]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _edges(mask: Mask) -> Mask:
    right, low, diagonal = (np.zeros_like(mask) for _ in range(3))
    right[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    low[:-1] = mask[:-1] ^ mask[1:]
    diagonal[:-1, :-1] = mask[:-1, :-1] ^ mask[1:, 1:]
    edge: Mask = right | low | diagonal
    return edge


if __name__ == "__main__":
    start(main)
