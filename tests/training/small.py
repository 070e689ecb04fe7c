"""A tiny network with dropout on tiny videos, for tests of what surrounds a step."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch

from tests.data.tree import video
from voslab.core.checkpoint import CheckpointMetadata
from voslab.data import Augmentation, ClipSettings, VideoSequence
from voslab.data.datamodule import VOSDataModule
from voslab.engine import Settings
from voslab.methods import registry
from voslab.training.checkpointing import AtomicCheckpointIO
from voslab.training.module import VOSModule
from voslab.training.recipe import Recipe
from voslab.training.resume import BestCheckpoint, LastCheckpoint, StepSeed

CLIPS = ClipSettings(Augmentation((32, 48), fit="crop", jitter=0.1), frames=2, min_area=4)
NETWORK = {"backbone": "resnet18", "norm": "group", "width": 8, "decoder_width": 8}


def videos(folder: Path, count: int = 8) -> tuple[VideoSequence, ...]:
    return tuple(video(folder / f"v{number}", frames=4) for number in range(count))


def data(sequences: tuple[VideoSequence, ...], workers: int = 0, **options: Any) -> VOSDataModule:
    chosen = {"batch_size": 2, "seed": 3, **options}
    return VOSDataModule(CLIPS, sequences, sequences[:2], sequences[:1], num_workers=workers, **chosen)


def module(**recipe: Any) -> VOSModule:
    torch.manual_seed(0)
    scheduler = partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=20)
    options = {"scheduler": scheduler, "schedule": "step", **recipe}
    segmenter = registry.build("swiftnet", dict(NETWORK))
    metadata = CheckpointMetadata("swiftnet", dict(NETWORK))
    return VOSModule(segmenter, Recipe(torch.optim.Adam, **options), Settings(size=32), metadata, False)


def trainer(folder: Path, *callbacks: L.Callback, every: int | None = 1, **options: Any) -> L.Trainer:
    checkpoints = str(folder / "checkpoints")
    best = BestCheckpoint(
        checkpoints,
        "best",
        monitor="val/J&F-Mean",
        mode="max",
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )
    chosen = {"max_epochs": 3, "logger": False, "reload_dataloaders_every_n_epochs": 1, **options}
    return L.Trainer(
        accelerator="cpu",
        callbacks=[StepSeed(3), best, LastCheckpoint(checkpoints, every), *callbacks],
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        inference_mode=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        **chosen,
    )


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return loaded


def digest(content: dict[str, Any]) -> str:
    """Of weights and the optimiser's state."""
    made = hashlib.sha256()
    for _, value in sorted(content["state_dict"].items()):
        made.update(value.numpy().tobytes())
    for state in content["optimizer_states"][0]["state"].values():
        made.update(b"".join(value.numpy().tobytes() for value in state.values()))
    return made.hexdigest()
