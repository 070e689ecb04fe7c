"""Callbacks with which a run killed at any step resumes with identical results."""

from __future__ import annotations

import logging
import shutil
import signal
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from voslab.core import atomic_path, generator
from voslab.core.parameters import Count, Range
from voslab.training.processes import children, end
from voslab.training.signals import Signals, requeue

log = logging.getLogger(__name__)


class StepSeed(L.Callback):
    """Seeds torch's global generator for every batch, so that dropout draws the same numbers in a resumed run.

    Passes of one optimisation step draw the same numbers whether processes share them or one process accumulates them.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed with (seed, epoch, number of the pass over all processes)."""
        passes = batch_idx * trainer.world_size + trainer.global_rank
        key = (self.seed, "dropout", trainer.current_epoch, passes, 0)
        torch.manual_seed(int(generator(*key).integers(2**63)))


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt`; on SIGTERM or Ctrl-C writes it and stops with exit code 128 + signal.

    The checkpoint is written every few steps, at the end of an epoch, and before the batch that is followed by
    validation. Nothing is written between that batch and the end of validation, because a resumed run could not tell
    whether validation has run. A run that is stopped there repeats that batch.

    Under SLURM, SIGUSR1 (`sbatch --signal=SIGUSR1@120`) does the same and requeues the job.

    Args:
        dirpath: folder of `last.ckpt`.
        every_n_train_steps: interval within an epoch, in optimiser steps; None: not by steps.
        every_minutes: interval within an epoch in minutes, by the clock; None: not by time.
    """

    def __init__(
        self,
        dirpath: str,
        every_n_train_steps: Count | None = None,
        every_minutes: Annotated[float, Range(0)] | None = None,
    ) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.every = every_n_train_steps
        self.signals = Signals()
        self.every_seconds = None if every_minutes is None else 60 * every_minutes
        self._saved = -1
        self._written = time.monotonic()
        self._stopping = False

    def _listen(self, trainer: L.Trainer) -> None:
        numbers = [signal.SIGTERM, signal.SIGINT]
        if SLURMEnvironment.detect():
            numbers.append(signal.SIGUSR1)
        self.signals.install(numbers, children(trainer))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install signal handlers."""
        self._listen(trainer)
        self._written = time.monotonic()
        loop = trainer.fit_loop
        if loop.restarted_on_epoch_end:
            # With `max_steps`, Lightning mistakes the end of an epoch for its middle and skips the next epoch.
            loop.epoch_progress.increment_completed()
            loop.reset_restart_stage()
            loop._restarting = False
            loop.epoch_loop.restarting = False

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install signal handlers."""
        self._listen(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop if requested; the loggers now have the previous step."""
        if self._stopping:
            self._stop(trainer)
        if self._saved == trainer.global_step:
            for logger in trainer.loggers:
                logger.save()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the checkpoint if it is due, and agree with the other processes whether to stop."""
        if trainer.fit_loop._should_accumulate():
            return
        done, step = batch_idx + 1, trainer.global_step
        received = self.signals.received is not None
        self._stopping = trainer.strategy.reduce_boolean_decision(received, all=False)
        if _validates_after(trainer, done):
            if self._stopping:
                self._stop(trainer)
        elif done < trainer.num_training_batches:
            upcoming = min(done + trainer.accumulate_grad_batches, int(trainer.num_training_batches))
            due = (self.every is not None and step % self.every == 0) or self._is_time(trainer)
            if due or self._stopping or step == trainer.max_steps or _validates_after(trainer, upcoming):
                self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint after validation."""
        if self._saved != trainer.global_step:
            self._save(trainer)
        stopping = self.signals.received is not None or self._stopping
        if trainer.strategy.reduce_boolean_decision(stopping, all=False):
            self._stop(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Stop if requested; without communication, because processes have different numbers of videos."""
        if self.signals.received is not None:
            self._stop(trainer)

    def on_test_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """See `on_validation_batch_end`."""
        self.on_validation_batch_end(trainer)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Copy the checkpoint if the run continues in another folder, so that it has one from the start."""
        if trainer.training and trainer.ckpt_path is not None:
            _copy(trainer, Path(trainer.ckpt_path), self.path)
            self._saved = checkpoint["global_step"]

    def _is_time(self, trainer: L.Trainer) -> bool:
        """Return whether the interval has passed in any process; the clocks of processes differ."""
        if self.every_seconds is None:
            return False
        passed = time.monotonic() - self._written >= self.every_seconds
        return trainer.strategy.reduce_boolean_decision(passed, all=False)

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.path, False)
        self._written = time.monotonic()
        self._saved = trainer.global_step

    def _stop(self, trainer: L.Trainer) -> NoReturn:
        number = signal.Signals(self.signals.received or signal.SIGTERM)
        if trainer.is_global_zero:
            kept = (
                f"at step {self._saved}; resume={self.path.parents[1]}" if self._saved >= 0 else "before a checkpoint"
            )
            log.warning("stopped by %s %s", number.name, kept)
            if number == signal.SIGUSR1:
                requeue()
        end(trainer, number)


class BestCheckpoint(ModelCheckpoint):
    """`ModelCheckpoint` that keeps the best checkpoint when a run continues in another folder."""

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Copy the best checkpoint from the folder of the resumed one, and adopt it."""
        state = checkpoint.get("callbacks", {}).get(self.state_key)
        if state is None or not trainer.training or trainer.ckpt_path is None or self.dirpath is None:
            return
        moved: dict[str, str] = {}
        for old in state["best_k_models"]:
            source, target = Path(trainer.ckpt_path).parent / Path(old).name, Path(self.dirpath) / Path(old).name
            if not source.is_file():
                continue
            _copy(trainer, source, target)
            moved[old] = str(target)
        state["dirpath"] = str(self.dirpath)
        state["best_k_models"] = {moved[old]: score for old, score in state["best_k_models"].items() if old in moved}
        for key in ("best_model_path", "kth_best_model_path"):
            state[key] = moved.get(state[key], "")


def _copy(trainer: L.Trainer, source: Path, target: Path) -> None:
    if trainer.is_global_zero and source.resolve() != target.resolve():
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


def _validates_after(trainer: L.Trainer, batches: int) -> bool:
    """Return whether validation runs after the given number of batches of this epoch."""
    every = trainer.check_val_every_n_epoch
    if not trainer.enable_validation or not trainer.val_check_batch:
        return False
    if every is None:
        earlier = trainer.fit_loop.total_batch_idx - trainer.fit_loop.batch_idx
        return bool((earlier + batches) % trainer.val_check_batch == 0)
    if (trainer.current_epoch + 1) % every:
        return False
    return bool(batches % trainer.val_check_batch == 0)
