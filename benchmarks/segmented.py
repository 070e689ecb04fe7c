"""One sequence through a segmenter, scored and timed, for benchmarks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

from voslab.core import RawFrame, Segmenter
from voslab.data.video_sequence import VideoSequence
from voslab.engine import Settings, run
from voslab.engine.timing import timed
from voslab.metrics import score_frame, standard_areas


@dataclass(frozen=True)
class Ran:
    """One sequence, in presentation order.

    Attributes:
        rows: N x 5: frame, J, F, size, whether the base looked at it.
        keys: images of the frames that the base looked at.
        frames: how many there are.
        network: seconds in the network, of which `b_frames` on B-frames; `total` with reading and decoding.
        stages: seconds in the network's own stages, those of B-frames.
    """

    rows: NDArray[np.float64]
    keys: list[NDArray[np.uint8]]
    frames: int
    network: float
    b_frames: float
    total: float
    stages: dict[str, float]


def ran(
    segmenter: Segmenter[Any],
    sequence: VideoSequence,
    images: Iterable[RawFrame | NDArray[np.uint8]],
    settings: Settings,
) -> Ran:
    """Segment a sequence from its first mask, and score it."""
    rows: list[tuple[float, ...]] = []
    keys: list[NDArray[np.uint8]] = []
    network = b_frames = total = 0.0
    frames = 0
    given = sequence.given_masks()
    objects = sorted(int(i) for i in np.unique(given[0]) if i)
    predictions = run(segmenter, images, given, settings, truth=sequence.labels)
    with timed(segmenter, segmenter.stages) as stages:
        while True:
            started = time.process_time()
            prediction = next(predictions, None)
            total += time.process_time() - started
            if prediction is None:
                break
            frames += 1
            network += prediction.seconds
            if prediction.key:
                keys.append(prediction.image)
            else:
                b_frames += prediction.seconds
            if 0 < prediction.index < len(sequence) - 1:
                truth = sequence.labels(prediction.index)
                assert truth is not None
                scores = score_frame(prediction.ids, truth, objects)
                for score, area in zip(scores.tolist(), standard_areas(truth, objects).tolist(), strict=True):
                    rows.append((prediction.index, *score, area, prediction.key))
    return Ran(np.array(rows, np.float64).reshape(-1, 5), keys, frames, network, b_frames, total, dict(stages))


@contextmanager
def processor_time() -> Iterator[None]:
    """Let the engine count processor time in place of what a clock on the wall says."""

    def now(_: torch.device) -> float:
        return time.process_time()

    with patch("voslab.engine.session.now", now), patch("voslab.engine.profiling.now", now):
        yield
