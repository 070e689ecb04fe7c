"""Weights & Biases, offline unless the user is logged in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger


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
