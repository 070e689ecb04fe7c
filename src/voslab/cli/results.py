"""Writes the results of a run: `metrics.json` and `per_sequence.csv`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voslab.core import atomic_write, write_csv
from voslab.data import VideoSequence
from voslab.metrics import ScoreTable, youtube_vos_score
from voslab.reporting.run_record import finite_metrics
from voslab.training.evaluation import EvaluationModule
from voslab.video import read_mask
from voslab.video.mask_formats.options import LITERAL

STATISTICS = ("mean", "recall", "decay")


def collect_results(module: EvaluationModule, videos: Sequence[VideoSequence]) -> dict[str, float]:
    """Return the results of a test, with G if the data set has unseen categories.

    Args:
        module: module whose test has finished.
        videos: sequences that were scored.
    """
    unseen = [video.unseen for video in videos]
    return {**module.results, **(youtube_vos_score(module.table, unseen) if any(unseen) else {})}


def costs(parameters: int, training: Mapping[str, float]) -> dict[str, float]:
    """Return the cost of a network as metrics.

    Args:
        parameters: number of parameters.
        training: optimiser steps and minutes of the training; empty if unknown.

    Example:
        >>> costs(24_000_000, {"steps": 10, "minutes": 2.5})
        {'params_millions': 24.0, 'training_steps': 10.0, 'training_minutes': 2.5}
    """
    spent = {f"training_{name}": float(value) for name, value in training.items()}
    return {"params_millions": parameters / 1e6, **spent}


def write_metrics(folder: Path, metrics: Mapping[str, float]) -> Path:
    """Write `metrics.json` to a folder; NaN (nothing scored) becomes null."""
    path = folder / "metrics.json"
    atomic_write(path, json.dumps(finite_metrics(metrics), indent=2) + "\n")
    return path


def masks_hash(folder: Path, videos: Sequence[VideoSequence]) -> str:
    """Return a hash of names and pixels of masks, independent of the PNG encoding.

    Args:
        folder: folder of `<sequence>/<frame>.png`.
        videos: the sequences.
    """
    digest = hashlib.sha256()
    for path in sorted(
        folder / video.name / f"{video.images[i].stem}.png" for video in videos for i in video.output_frames
    ):
        ids = read_mask(path, LITERAL)
        digest.update(f"{path.relative_to(folder)} {ids.shape} ".encode() + ids.astype("<i4").tobytes())
    return digest.hexdigest()


def write_per_sequence(folder: Path, score: ScoreTable, videos: Sequence[VideoSequence]) -> Path:
    """Write `per_sequence.csv`, one row per sequence and object."""
    columns = [f"{measure}-{statistic.capitalize()}" for measure in "JF" for statistic in STATISTICS]
    rows = [
        {key: f"{value:.6f}" if isinstance(value, float) else value for key, value in row.items()}
        for row in per_sequence(score, videos)
    ]
    path = folder / "per_sequence.csv"
    write_csv(path, rows, ["sequence", "object", "frames", "J&F-Mean", *columns])
    return path


def per_sequence(score: ScoreTable, videos: Sequence[VideoSequence]) -> list[dict[str, Any]]:
    """Return one row per sequence and object: names, scored frames, and scores under the official tool's names."""
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
