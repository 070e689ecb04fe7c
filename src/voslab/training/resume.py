"""Callbacks with which a run killed at any step resumes with identical results."""

from __future__ import annotations

import logging
import shutil
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from voslab.core import atomic_path, generator
from voslab.core.parameters import Count, Range
from voslab.core.signals import SIGNALS, Stopped
from voslab.training.processes import handle_signals, requeue

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

    The checkpoint is written every few steps, at the end of an epoch, and whenever validation begins before the next
    step ends. Nothing is written between a step and the validation that follows it, because a resumed run could not
    tell whether validation has run. A run that is stopped there repeats the batches since the step before. Validation
    and tests stop at once.

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
        self.every_seconds = None if every_minutes is None else 60 * every_minutes
        self._saved = -1
        self._written = time.monotonic()
        self._stopping = False
        self._installed = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Handle signals."""
        if not SIGNALS.installed:
            SIGNALS.install()
            self._installed = True
        if SLURMEnvironment.detect():
            SIGNALS.add(signal.SIGUSR1)
        handle_signals(trainer)
        self._set_saved(self._saved)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Restore the signal handlers from before `setup`."""
        if self._installed:
            SIGNALS.uninstall()
            self._installed = False

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Requeue the job if SLURM asked for it, and restore the signal handlers."""
        if trainer.is_global_zero and SIGNALS.received == signal.SIGUSR1:
            requeue()
        if trainer.is_global_zero and self._installed and isinstance(exception, Stopped):
            log.warning("stopped by %s%s", exception.signal.name, SIGNALS.detail)
        self.teardown(trainer, pl_module, "fit")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Defer stopping to the next save point, and write a checkpoint if the first step is none."""
        SIGNALS.deferred = True
        self._written = time.monotonic()
        loop = trainer.fit_loop
        if loop.restarted_on_epoch_end:
            # With `max_steps`, Lightning mistakes the end of an epoch for its middle and skips the next epoch.
            loop.epoch_progress.increment_completed()
            loop.reset_restart_stage()
            loop._restarting = False
            loop.epoch_loop.restarting = False
        if self._saved < 0 and _validates_before_next_step(trainer, 0):
            self._save(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop if requested; the loggers now have the previous step."""
        if self._stopping:
            SIGNALS.stop()
        if self._saved == trainer.global_step:
            for logger in trainer.loggers:
                logger.save()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the checkpoint if it is due, and agree with the other processes whether to stop."""
        if trainer.fit_loop._should_accumulate():
            return
        done = batch_idx + 1
        received = SIGNALS.received is not None
        self._stopping = trainer.strategy.reduce_boolean_decision(received, all=False)
        if _validates_after(trainer, done):
            if self._stopping:
                SIGNALS.stop()
        elif self._is_due(trainer, done) or (self._stopping and done < trainer.num_training_batches):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the checkpoint after validation."""
        if self._saved != trainer.global_step:
            self._save(trainer)
        stopping = SIGNALS.received is not None or self._stopping
        if trainer.strategy.reduce_boolean_decision(stopping, all=False):
            SIGNALS.stop()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop at once from now on."""
        SIGNALS.check()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop at once from now on; without communication, because processes have different numbers of videos."""
        SIGNALS.check()

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Stop if requested; Python drops an exception that a signal handler raises within a destructor."""
        SIGNALS.check()

    def on_test_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """See `on_validation_batch_end`."""
        SIGNALS.check()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Within an epoch, defer stopping again, and write the checkpoint if it is due."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        SIGNALS.deferred = True
        loop = trainer.fit_loop
        if not loop._should_accumulate() and self._is_due(trainer, loop.batch_idx + 1):
            self._save(trainer)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Copy the checkpoint if the run continues in another folder, so that it has one from the start."""
        if trainer.training and trainer.ckpt_path is not None:
            _copy(trainer, Path(trainer.ckpt_path), self.path)
            self._set_saved(checkpoint["global_step"])

    def _is_due(self, trainer: L.Trainer, done: int) -> bool:
        """Return whether to write the checkpoint after a number of batches of an epoch and the step that ends them."""
        if done >= trainer.num_training_batches:
            return False
        step = trainer.global_step
        interval = self.every is not None and step % self.every == 0
        last = step == trainer.max_steps
        return interval or last or _validates_before_next_step(trainer, done) or self._is_time(trainer)

    def _is_time(self, trainer: L.Trainer) -> bool:
        """Return whether the interval has passed in any process; the clocks of processes differ."""
        if self.every_seconds is None:
            return False
        passed = time.monotonic() - self._written >= self.every_seconds
        return trainer.strategy.reduce_boolean_decision(passed, all=False)

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.path, False)
        self._written = time.monotonic()
        self._set_saved(trainer.global_step)

    def _set_saved(self, step: int) -> None:
        self._saved = step
        SIGNALS.detail = f" at step {step}; resume={self.path.parents[1]}" if step >= 0 else " before a checkpoint"


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


def _validates_before_next_step(trainer: L.Trainer, done: int) -> bool:
    """Return whether validation begins before a checkpoint can be written after the next step.

    Args:
        trainer: the trainer.
        done: number of batches of this epoch that are done.
    """
    step = int(min(done + trainer.accumulate_grad_batches, trainer.num_training_batches))
    return any(_validates_after(trainer, batches) for batches in range(done + 1, step + 1))


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
