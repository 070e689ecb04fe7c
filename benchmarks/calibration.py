"""Whether the default weights know where they are wrong: a calibration curve on the five held-out training videos.

    python -m benchmarks.calibration data=DAVIS [size=480] [videos=bear,car-turn,dog-agility,motorbike,rollerblade]

A row of the first table holds the pixels whose likeliest label has a probability in a range: their share, the mean
probability, and the share that is right. Below stand the expected calibration error, over all pixels and over those
less sure than 99 %, and the temperature that makes the true labels most likely, for `python -m src.merge`. The second
table compares the uncertainty of frames, as the annotation page shows it, with their true error: false pixels over
pixels of the object.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.goals import HELD_OUT, options, start
from voslab import Predictor
from voslab.data.sources.davis import davis
from voslab.studio.project import uncertainty

DEFAULTS = {"data": "data/DAVIS", "size": "480", "videos": HELD_OUT}
LOGITS = np.linspace(-16, 16, 641)
"""Middles of the bins in which logits are counted."""
EDGES = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0])


def main() -> None:
    """Print both tables."""
    given = options(DEFAULTS)
    predictor = Predictor.load(size=int(given["size"]))
    sums, counts = np.zeros((3, len(EDGES) - 1)), np.zeros((2, len(LOGITS)))
    frames: list[tuple[str, float, float]] = []
    for video in davis(Path(given["data"]), year=2016, split="train", only=given["videos"].split(",")):
        images = (video.image(i) for i in range(len(video)))
        for prediction in predictor.segment(images, video.given_masks(), probabilities=True):
            truth = video.labels(prediction.index)
            if prediction.index == 0 or truth is None:
                continue
            assert prediction.probabilities is not None
            right = (prediction.ids == 1) == (truth == 1)
            counts += logit_counts(prediction.probabilities[0], truth == 1)
            sums += binned(np.maximum(prediction.probabilities[0], 1 - prediction.probabilities[0]), right)
            frames.append((video.name, uncertainty(prediction), float((~right).sum() / max(1, (truth == 1).sum()))))
    count, confidence, correct = sums
    print("probability   share of pixels   mean probability   right")
    for low, high, number, mean, hits in zip(EDGES, EDGES[1:], count, confidence, correct, strict=False):
        shares = number / count.sum(), mean / number, hits / number
        print(f"{low:.2f} - {high:.2f}   {shares[0]:.4f}            {shares[1]:.3f}              {shares[2]:.3f}")
    gap = np.abs(confidence - correct)
    errors = gap.sum() / count.sum(), gap[:-1].sum() / count[:-1].sum()
    print(f"expected calibration error: {errors[0]:.4f}; below 99 %: {errors[1]:.3f}")
    temperature = predictor.model.settings.temperature
    print(f"temperature: {temperature:.2f}, best {temperature * best_temperature(counts):.2f}")
    print("\nvideo            uncertainty   true error")
    names = dict.fromkeys(name for name, _, _ in frames)
    for name in names:
        rows = np.array([(sure, wrong) for other, sure, wrong in frames if other == name])
        print(f"{name:<16} {rows[:, 0].mean():.3f}         {rows[:, 1].mean():.3f}")
    values = np.array([(sure, wrong) for _, sure, wrong in frames])
    print(f"rank correlation over {len(frames)} frames: {spearmanr(*values.T).statistic:.2f}")


def binned(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Number of pixels, sum of confidence, and number of right pixels per range of confidence."""
    place = np.clip(np.digitize(confidence, EDGES) - 1, 0, len(EDGES) - 2).ravel()
    weights = (None, confidence.ravel(), right.ravel())
    return np.stack([np.bincount(place, weight, len(EDGES) - 1) for weight in weights])


def logit_counts(probabilities: NDArray[np.float32], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Number of pixels per bin of the logit, outside and inside the object."""
    p = probabilities.astype(np.float64).clip(1e-7, 1 - 1e-7)
    step = LOGITS[1] - LOGITS[0]
    place = np.rint((np.log(p / (1 - p)) - LOGITS[0]) / step).astype(int).clip(0, len(LOGITS) - 1)
    return np.stack([np.bincount(place[side], minlength=len(LOGITS)) for side in (~truth, truth)]).astype(np.float64)


def best_temperature(counts: NDArray[np.float64]) -> float:
    """Temperature T with the smallest negative log-likelihood of sigmoid(logit / T)."""
    choices = np.linspace(0.5, 6, 551)
    costs = [
        (counts[0] * np.logaddexp(0, LOGITS / t) + counts[1] * np.logaddexp(0, -LOGITS / t)).sum() for t in choices
    ]
    return float(choices[int(np.argmin(costs))])


if __name__ == "__main__":
    start(main)
