from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from voslab.metrics import DAVISScore, score_frame, scored_frames

GOLDEN = Path(__file__).parents[1] / "golden"
SHIFTS = {"metrics_davis_shift": (4, 6), "metrics_davis_shift_large": (9, 14)}


def test_shifted_annotations_of_davis_2016_val_score_as_published(vos_data: Path) -> None:
    goldens = {name: json.loads((GOLDEN / f"{name}.json").read_text()) for name in SHIFTS}
    metrics = {name: DAVISScore() for name in SHIFTS}
    sequences = list(goldens["metrics_davis_shift"]["sequences"])
    for index, sequence in enumerate(sequences):
        files = sorted((vos_data / "DAVIS/Annotations/480p" / sequence).glob("*.png"))
        truth = np.stack([np.asarray(Image.open(file).convert("L")) > 0 for file in files])
        for name, (dy, dx) in SHIFTS.items():
            golden = goldens[name]["sequences"][sequence]
            assert len(files) == golden["frames"]
            assert zlib.crc32(np.packbits(truth)) == golden["annotation_crc32"], sequence
            for frame in scored_frames(len(files)):
                shifted = np.zeros_like(truth[frame])
                shifted[dy:, dx:] = truth[frame, :-dy, :-dx]
                scores = score_frame(shifted.astype(np.uint8), truth[frame].astype(np.uint8), [1])
                expected = golden["J_per_frame"][frame - 1], golden["F_per_frame"][frame - 1]
                assert scores[0] == pytest.approx(expected, abs=1e-9), (sequence, frame)
                metrics[name].update(index, [frame], [1], scores[None])
    for name, metric in metrics.items():
        _compare(metric, goldens[name], sequences)


def _compare(metric: DAVISScore, golden: dict[str, Any], sequences: list[str]) -> None:
    score = metric.score()
    parts = [(golden["global"], score)] + [(golden["sequences"][sequences[o.sequence]], o) for o in score.objects]
    assert len(parts) == 21
    for expected, ours in parts:
        for letter, numbers in (("J", ours.region), ("F", ours.boundary)):
            for statistic in ("mean", "recall", "decay"):
                assert getattr(numbers, statistic) == pytest.approx(expected[f"{letter}_{statistic}"], abs=1e-6)
    assert metric.compute()["J&F-Mean"] == pytest.approx(golden["J_and_F_mean"], abs=1e-6)
