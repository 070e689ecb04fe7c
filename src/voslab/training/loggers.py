"""Creates loggers for W&B (offline unless the user is logged in) and CSV that continue with a resumed run."""

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
"""File in a run folder with the id of its W&B run."""


def wandb_logger(
    project: str, name: str, folder: str, resume: str | None = None, group: str | None = None, **settings: Any
) -> WandbLogger:
    """Create a W&B logger that needs neither account nor network.

    Args:
        project: W&B project.
        name: name of the run.
        folder: folder for W&B's files; created if missing.
        resume: run folder to continue, as the same run in W&B; `auto`: this folder, if it has a run.
        group: group of runs; None: the folder of the sweep that started this run, if any.
        settings: further `wandb.init` settings (entity, tags, notes).

    Returns:
        The logger.
    """
    import wandb

    root = Path(folder)
    (root / "wandb").mkdir(parents=True, exist_ok=True)
    if group is None and (root / "job.json").is_file():
        parent = root.absolute().parent
        group = (parent.parents[1] if parent.name == "stages" else parent).name
    chosen = os.environ.get("WANDB_MODE")
    online = chosen == "online" or (chosen is None and wandb.login(prompt=False, verify=False))
    mode = chosen or ("online" if online else "offline")
    run: dict[str, Any] = {"id": run_id(root, resume), "resume": "allow", "group": group, "mode": mode}
    logger = WandbLogger(project=project, name=name, save_dir=folder, offline=not online, **run, **settings)
    # Lightning always passes this setting, which W&B ignores with a warning.
    logger._wandb_init.pop("anonymous", None)
    return logger


def run_id(folder: Path, resume: str | None) -> str:
    """Return the id of a W&B run: of the resumed run, else from the agent of a W&B sweep, else a new one.

    A new id is a hash of host, folder and time. Process 0 writes the id to the folder.

    Args:
        folder: run folder.
        resume: run folder to continue, or `auto` for this folder.
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
    """CSV logger that continues the curves of a resumed run."""

    def resume(self, run: Path, step: int) -> None:
        """Copy the rows of an earlier run up to the step at which training continues.

        Args:
            run: run folder, which may be this run's own.
            step: global step of the checkpoint.
        """
        earlier = run / Path(self.log_dir).relative_to(self.save_dir) / "metrics.csv"
        if not earlier.is_file():
            return
        with earlier.open(newline="", encoding="utf-8") as file:
            rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
        with warnings.catch_warnings():
            # The logger warns that the folder is not empty, as intended here.
            warnings.simplefilter("ignore")
            writer = self.experiment
        writer.metrics += [row for row in rows if int(row["step"]) < step]
        self.save()
