"""Weights & Biases, offline unless the user is logged in; curves as CSV that a resumed run continues."""

from __future__ import annotations

import csv
import os
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, WandbLogger


def wandb_logger(project: str, name: str, folder: str, **settings: Any) -> WandbLogger:
    """A W&B logger that needs neither account nor network.

    Args:
        project: W&B project.
        name: of the run.
        folder: where W&B keeps its files; made when missing.
        settings: further `wandb.init` settings (entity, tags, group, notes).
    """
    import wandb

    Path(folder).mkdir(parents=True, exist_ok=True)
    chosen = os.environ.get("WANDB_MODE")
    online = chosen == "online" or (chosen is None and wandb.login(prompt=False, verify=False))
    mode = chosen or ("online" if online else "offline")
    return WandbLogger(project=project, name=name, save_dir=folder, offline=not online, mode=mode, **settings)


class Curves(CSVLogger):
    """`CSVLogger` of a run that may be resumed."""

    def go_on(self, run: Path, step: int) -> None:
        """Take over the rows of an earlier folder, or this one, up to the step from which training goes on."""
        earlier = run / Path(self.log_dir).relative_to(self.save_dir) / "metrics.csv"
        if not earlier.is_file():
            return
        with earlier.open(newline="", encoding="utf-8") as file:
            rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
        with warnings.catch_warnings():
            # That the folder is not empty is what we want.
            warnings.simplefilter("ignore")
            writer = self.experiment
        writer.metrics += [row for row in rows if int(row["step"]) < step]
        self.save()
