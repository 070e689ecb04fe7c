"""What one correction is worth: J&F on DAVIS 2016 val with the true mask of the worst frame given as well.

    python -m benchmarks.corrections data=DAVIS [weights=lite_stcn,RUN/checkpoints/last.ckpt] [size=240] [sequences=20]

Each sequence is segmented from its first mask. Then the true mask of the frame with the lowest J&F is given too, and
the sequence is segmented again. Neither the first, the last nor the corrected frame is scored, in both runs. A row has
the mean J&F without and with the correction, of all frames and of those after the corrected one, and the number of
sequences that win and that lose more than one point.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.goals import options, start
from voslab import Predictor
from voslab.core.resources import resource
from voslab.data import VideoSequence
from voslab.data.sources.davis import davis
from voslab.metrics import score_frame

DEFAULTS = {
    "data": "data/DAVIS",
    "weights": "lite_stcn,scratch_swiftnet,equal_stm,equal_gam,equal_crvos",
    "size": "240",
    "sequences": "20",
}


def main() -> None:
    """Print a row per weights."""
    given = options(DEFAULTS)
    videos = davis(Path(given["data"]), year=2016, split="val")[: int(given["sequences"])]
    print(
        f"{len(videos)} sequences, size {given['size']}: J&F without and with a correction; sequences with more, less"
    )
    for name in given["weights"].split(","):
        file = Path(name) if Path(name).suffix else resource(f"weights/{name}.safetensors")
        predictor = Predictor.load(file, size=int(given["size"]))
        rows = np.array([compared(predictor, video) for video in videos])
        everywhere, after = rows[:, :2].mean(0), np.nanmean(rows[:, 2:], 0)
        change = rows[:, 1] - rows[:, 0]
        print(
            f"{name:<18} all {everywhere[0]:.1f} -> {everywhere[1]:.1f}   after it {after[0]:.1f} -> {after[1]:.1f}   "
            f"{(change > 1).sum()} more, {(change < -1).sum()} less",
            flush=True,
        )


def compared(predictor: Predictor, video: VideoSequence) -> tuple[float, float, float, float]:
    """J&F in percent without and with the correction, of all scored frames and of those after the corrected one."""
    truth = [labels for i in range(len(video)) if (labels := video.labels(i)) is not None]
    before = scores(predictor, video, {0: truth[0]}, truth)
    worst = 1 + int(before[1:-1].argmin())
    after = scores(predictor, video, {0: truth[0], worst: truth[worst]}, truth)
    kept = np.array([index not in {0, worst, len(video) - 1} for index in range(len(video))])
    later = kept & (np.arange(len(video)) > worst)
    halves = (before[later], after[later]) if later.any() else (np.array([np.nan]), np.array([np.nan]))
    return before[kept].mean(), after[kept].mean(), halves[0].mean(), halves[1].mean()


def scores(
    predictor: Predictor, video: VideoSequence, masks: dict[int, NDArray[np.int32]], truth: list[NDArray[np.int32]]
) -> NDArray[np.float64]:
    """J&F of every frame, in percent."""
    images = (video.image(i) for i in range(len(video)))
    return np.array(
        [
            100 * float(np.mean(score_frame(prediction.ids, truth[prediction.index], [1])))
            for prediction in predictor.segment(images, masks)
        ]
    )


if __name__ == "__main__":
    start(main)
