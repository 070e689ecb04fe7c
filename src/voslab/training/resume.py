"""What makes a run that was killed at any step go on as though nothing had happened."""

from __future__ import annotations

import logging
import shutil
import signal
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from voslab.core import atomic_path, generator
from voslab.training.processes import children, end
from voslab.training.signals import Signals, requeue

log = logging.getLogger(__name__)


class StepSeed(L.Callback):
    """Seeds torch's global stream, which dropout reads, for every batch anew: a resumed run draws the same numbers.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed by (seed, epoch, batch, process)."""
        key = (self.seed, "dropout", trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(generator(*key).integers(2**63)))


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt`, and stops on SIGTERM or Ctrl-C as soon as it is written, with exit code 128 + signal.

    It is written at steps, at the end of an epoch, and before the batch behind which validation runs: between that
    batch and the end of validation a resumed run could not tell whether validation is still to come, so nothing is
    written there, and a run that is stopped there repeats that batch.

    Under SLURM, SIGUSR1 (`sbatch --signal=SIGUSR1@120`) does the same and puts the job back into the queue.

    Args:
        dirpath: folder of `last.ckpt`.
        every_n_train_steps: how often it is written within an epoch; None: not.
    """

    def __init__(self, dirpath: str, every_n_train_steps: int | None = None) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self.every = every_n_train_steps
        self.signals = Signals()
        self._saved = -1
        self._stopping = False

    def _listen(self, trainer: L.Trainer) -> None:
        numbers = [signal.SIGTERM, signal.SIGINT]
        if SLURMEnvironment.detect():
            numbers.append(signal.SIGUSR1)
        self.signals.install(numbers, children(trainer))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen for signals."""
        self._listen(trainer)
        loop = trainer.fit_loop
        if loop.restarted_on_epoch_end:
            # Where `max_steps` is set, Lightning takes the end of an epoch for its middle and leaves the next one out.
            loop.epoch_progress.increment_completed()
            loop.reset_restart_stage()
            loop._restarting = False
            loop.epoch_loop.restarting = False

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen for signals."""
        self._listen(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop, now that the loggers have the step before as well."""
        if self._stopping:
            self._stop(trainer)
        if self._saved == trainer.global_step:
            for logger in trainer.loggers:
                logger.save()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write where that is due, and all processes stop when one has been told to."""
        if trainer.fit_loop._should_accumulate():
            return
        done, step = batch_idx + 1, trainer.global_step
        metadata = self.signals.received is not None
        self._stopping = trainer.strategy.reduce_boolean_decision(metadata, all=False)
        if _validates_behind(trainer, done):
            if self._stopping:
                self._stop(trainer)
        elif done < trainer.num_training_batches:
            following = min(done + trainer.accumulate_grad_batches, int(trainer.num_training_batches))
            due = self.every is not None and step % self.every == 0
            if due or self._stopping or step == trainer.max_steps or _validates_behind(trainer, following):
                self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write, after validation."""
        if self._saved != trainer.global_step:
            self._save(trainer)
        metadata = self.signals.received is not None or self._stopping
        if trainer.strategy.reduce_boolean_decision(metadata, all=False):
            self._stop(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """Stop; every process by itself, as they have different numbers of videos."""
        if self.signals.received is not None:
            self._stop(trainer)

    def on_test_batch_end(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        """See `on_validation_batch_end`."""
        self.on_validation_batch_end(trainer)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Where a run goes on in another folder, that has a checkpoint from the start."""
        if trainer.training and trainer.ckpt_path is not None:
            _copy(trainer, Path(trainer.ckpt_path), self.path)
            self._saved = checkpoint["global_step"]

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.path, False)
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
    """`ModelCheckpoint` whose best so far comes along when a run goes on in another folder."""

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Copy the best so far from beside the checkpoint that is resumed, and take it for our own."""
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


def _validates_behind(trainer: L.Trainer, batches: int) -> bool:
    """Whether validation runs behind so many batches of this epoch."""
    every = trainer.check_val_every_n_epoch
    if not trainer.enable_validation or not trainer.val_check_batch:
        return False
    if every is None:
        earlier = trainer.fit_loop.total_batch_idx - trainer.fit_loop.batch_idx
        return bool((earlier + batches) % trainer.val_check_batch == 0)
    if (trainer.current_epoch + 1) % every:
        return False
    return bool(batches % trainer.val_check_batch == 0)
