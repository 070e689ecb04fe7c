"""Logs speed and memory of every training step, and prints a line per epoch."""

from __future__ import annotations

import math
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import RichProgressBar
from torch import Tensor

from voslab.data.train_loader import TrainLoader
from voslab.training.evaluation import peak_memory_mb


class Monitor(L.Callback):
    """Logs speed and memory of every step, and prints loss, score and remaining time of every epoch.

    Logged metrics: `train/gradient_norm` (all trained parameters, before clipping), `train/data_wait` (fraction of the
    step's time in which this process waited for its batch), `train/clips_per_second` (all processes) and
    `train/peak_memory_mb` (this process or its GPU).
    """

    def __init__(self) -> None:
        self._norm: Tensor | None = None
        self._loss: Tensor | None = None
        self._batches = 0
        self._validated = False
        self._began = self._epoch = self._step = 0.0
        self._waited = self._waiting = 0.0
        self._from = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start timing the run."""
        self._began, self._from = time.perf_counter(), trainer.global_step

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start timing the epoch."""
        self._epoch = self._step = time.perf_counter()
        self._waited = self._waiting = 0.0
        self._loss, self._batches, self._validated = None, 0, False

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Compute the norm of the gradients; a skipped step has none."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self._norm = torch.nn.utils.get_total_norm(gradients) if gradients else None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log speed and memory of the step."""
        now, loader = time.perf_counter(), trainer.train_dataloader
        waited = loader.wait_seconds if isinstance(loader, TrainLoader) else 0.0
        seconds = max(now - self._step, 1e-9)
        clips = len(batch.names) * trainer.world_size
        cost: dict[str, Any] = {
            "train/data_wait": min(1.0, (waited - self._waited) / seconds),
            "train/clips_per_second": clips / seconds,
            "train/peak_memory_mb": peak_memory_mb(pl_module.device),
        }
        if self._norm is not None:
            cost["train/gradient_norm"] = self._norm
        pl_module.log_dict(cost, on_step=True, on_epoch=False, batch_size=len(batch.names))
        self._waiting += waited - self._waited
        self._step, self._waited, self._norm = now, waited, None
        # Lightning divides the loss of accumulated batches.
        loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
        self._loss = loss if self._loss is None else self._loss + loss
        self._batches += 1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Exclude validation from the time of the next step."""
        self._step, self._validated = time.perf_counter(), True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line of the epoch; all processes take part, because the loss is averaged over them."""
        if self._loss is None:
            return
        loss = float(trainer.strategy.reduce(self._loss / self._batches, reduce_op="mean"))
        if trainer.is_global_zero:
            print(self._line(trainer, loss), flush=True)

    def _line(self, trainer: L.Trainer, loss: float) -> str:
        now = time.perf_counter()
        epochs = f"/{trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else ""
        parts = [f"epoch {trainer.current_epoch + 1}{epochs}", f"step {trainer.global_step}", f"loss {loss:.4f}"]
        score = trainer.callback_metrics.get("val/J&F-Mean")
        if self._validated and score is not None and math.isfinite(score):
            parts.append(f"val J&F {100 * float(score):.1f}")
        seconds = now - self._epoch
        parts.append(f"{duration(seconds)} ({100 * self._waiting / seconds:.0f} % waiting for data)")
        done, total = trainer.global_step - self._from, trainer.estimated_stepping_batches - self._from
        if 0 < done < total < math.inf:
            parts.append(f"{duration((now - self._began) * (total - done) / done)} to go")
        return "  ".join(parts)


class EpochProgressBar(RichProgressBar):
    """Lightning's progress bar, with epochs counted from 1 as in the lines of `Monitor`."""

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs or 0
        description = f"Epoch {current_epoch + 1}" + (f"/{last}" if last > 0 else "")
        # The bar of validation flickers if its description is longer.
        return description.ljust(len(self.validation_description))


def duration(seconds: float) -> str:
    """Format a time with about two digits.

    Args:
        seconds: the time.

    Example:
        >>> duration(7.24), duration(95), duration(4000), duration(200000)
        ('7.2 s', '95 s', '67 min', '55.6 h')
    """
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
