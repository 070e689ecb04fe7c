"""The scores that a run leaves behind: metrics.json and per_sequence.csv."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voslab.core import atomic_write, write_csv
from voslab.data import Sequence as Video
from voslab.metrics import ScoreTable, youtube_vos_score
from voslab.reporting.run_record import finite
from voslab.training.evaluation import EvaluationModule
from voslab.video import read_mask

STATISTICS = ("mean", "recall", "decay")


def measured(module: EvaluationModule, videos: Sequence[Video]) -> dict[str, float]:
    """What a test found, with G where the data set tells seen and unseen categories apart."""
    unseen = [video.unseen for video in videos]
    return {**module.results, **(youtube_vos_score(module.table, unseen) if any(unseen) else {})}


def costs(parameters: int, training: Mapping[str, float]) -> dict[str, float]:
    """What stands beside scores: a network's size in millions, and the steps and minutes that it was trained."""
    return {"parameters_m": parameters / 1e6, **{f"training_{name}": float(value) for name, value in training.items()}}


def write_metrics(folder: Path, metrics: Mapping[str, float]) -> Path:
    """Write `metrics.json`; numbers that do not exist (nothing scored) become null."""
    path = folder / "metrics.json"
    atomic_write(path, json.dumps(finite(metrics), indent=2) + "\n")
    return path


def masks_hash(folder: Path, videos: Sequence[Video]) -> str:
    """A hash of the masks of sequences below a folder: names and pixels, whatever program packed them."""
    digest = hashlib.sha256()
    for path in sorted(folder / video.name / f"{video.images[i].stem}.png" for video in videos for i in video.asked):
        ids = read_mask(path)
        digest.update(f"{path.relative_to(folder)} {ids.shape} ".encode() + ids.astype("<i4").tobytes())
    return digest.hexdigest()


def write_per_sequence(folder: Path, score: ScoreTable, videos: Sequence[Video]) -> Path:
    """Write `per_sequence.csv`: a row per sequence and object."""
    columns = [f"{measure}-{statistic.capitalize()}" for measure in "JF" for statistic in STATISTICS]
    rows = [
        {key: f"{value:.6f}" if isinstance(value, float) else value for key, value in row.items()}
        for row in per_sequence(score, videos)
    ]
    path = folder / "per_sequence.csv"
    write_csv(path, rows, ["sequence", "object", "frames", "J&F-Mean", *columns])
    return path


def per_sequence(score: ScoreTable, videos: Sequence[Video]) -> list[dict[str, Any]]:
    """A row per sequence and object: names, scored frames, and its numbers under the official tool's names."""
    return [
        {
            "sequence": videos[row.sequence].name,
            "object": row.object,
            "frames": row.frames,
            "J&F-Mean": (row.region.mean + row.boundary.mean) / 2,
            **{
                f"{measure}-{statistic.capitalize()}": getattr(part, statistic)
                for measure, part in zip("JF", (row.region, row.boundary), strict=True)
                for statistic in STATISTICS
            },
        }
        for row in score.objects
    ]
