"""Weights & Biases, offline unless the user is logged in; curves as CSV. A resumed run continues both."""

from __future__ import annotations

import csv
import hashlib
import os
import platform
import time
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from voslab.core import atomic_write

RUN_ID = Path("wandb", "run_id")
"""In a run's folder: its name in W&B's addresses."""


def wandb_logger(
    project: str, name: str, folder: str, resume: str | None = None, group: str | None = None, **settings: Any
) -> WandbLogger:
    """A W&B logger that needs neither account nor network.

    Args:
        project: W&B project.
        name: of the run.
        folder: where W&B keeps its files; made when missing.
        resume: folder of the run that goes on, as the same run in W&B; `auto`: this folder's, if it has one.
        group: of runs; None: the folder of the sweep that has started this run, if one has.
        settings: further `wandb.init` settings (entity, tags, notes).
    """
    import wandb

    place = Path(folder)
    (place / "wandb").mkdir(parents=True, exist_ok=True)
    if group is None and (place / "job.json").is_file():
        group = place.absolute().parent.name
    chosen = os.environ.get("WANDB_MODE")
    online = chosen == "online" or (chosen is None and wandb.login(prompt=False, verify=False))
    mode = chosen or ("online" if online else "offline")
    run: dict[str, Any] = {"id": run_id(place, resume), "resume": "allow", "group": group, "mode": mode}
    return WandbLogger(project=project, name=name, save_dir=folder, offline=not online, **run, **settings)


def run_id(folder: Path, resume: str | None) -> str:
    """The id of a W&B run: that of the run which goes on, else what the agent of a W&B sweep says, else a new one.

    A new one is a hash of where and when the run began. It is kept in the folder, by the first process alone.
    """
    earlier = (folder if resume == "auto" else Path(resume)) / RUN_ID if resume is not None else None
    if earlier is not None and earlier.is_file():
        found = earlier.read_text().strip()
    else:
        begun = f"{platform.node()} {folder.absolute()} {time.time_ns()}"
        found = os.environ.get("WANDB_RUN_ID") or hashlib.sha256(begun.encode()).hexdigest()[:12]
    rank_zero_only(atomic_write)(folder / RUN_ID, found + "\n")
    return found


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
