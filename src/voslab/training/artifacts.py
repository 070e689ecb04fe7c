"""Uploads the results of a finished training to W&B: a table of sequences, the model and result files."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

RESULTS = ("metrics.json", "per_sequence.csv", "gallery")


@rank_zero_only
def publish(loggers: Iterable[Logger], folder: Path, checkpoint: Path) -> None:
    """Log `test/per_sequence` and the artifacts `model-<id>` and `results-<id>`; offline they stay in the run folder.

    Args:
        loggers: loggers of the trainer; only W&B loggers are used.
        folder: run folder; missing files are skipped.
        checkpoint: checkpoint of the model.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _publish(logger.experiment, folder, checkpoint)


def _publish(run: Any, folder: Path, checkpoint: Path) -> None:
    import wandb

    scores = folder / "per_sequence.csv"
    if scores.is_file():
        with scores.open(newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        values = [[_value(cell) for cell in row] for row in rows]
        run.log({"test/per_sequence": wandb.Table(columns=head, data=values)})
    if checkpoint.is_file():
        model = wandb.Artifact(f"model-{run.id}", "model")
        # The file does not change any more, so it is uploaded without a copy.
        model.add_file(str(checkpoint), policy="immutable", skip_cache=True)
        run.log_artifact(model, aliases=[checkpoint.stem])
    results = wandb.Artifact(f"results-{run.id}", "results")
    for path in (folder / name for name in RESULTS):
        if path.is_dir():
            results.add_dir(str(path), path.name, policy="immutable")
        elif path.is_file():
            results.add_file(str(path), policy="immutable")
    run.log_artifact(results)


def _value(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell
