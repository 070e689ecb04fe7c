"""Trains, validates and tests a method: `python -m src.train experiment=crvos_davis paths.data=DIR`."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path

import lightning as L
import torch
from omegaconf import DictConfig

from voslab.cli.entry import plain, run
from voslab.cli.instantiate import instantiate
from voslab.cli.messages import after_training, describe_outputs, describe_run_folder
from voslab.cli.results import collect_results, costs, per_sequence, write_metrics, write_per_sequence
from voslab.cli.training_module import training_module
from voslab.core import CheckpointError, ConfigError, VOSError, claimed
from voslab.core.archive import read_archive, read_checkpoint
from voslab.core.files import remove_partial
from voslab.core.signals import SIGNALS
from voslab.data.datamodule import VOSDataModule
from voslab.methods.checkpoint import check_resumed
from voslab.metrics import ScoreTable
from voslab.reporting.run_record import write_record
from voslab.training.artifacts import publish
from voslab.training.finite import NotFiniteError
from voslab.training.loggers import Curves
from voslab.training.module import VOSModule
from voslab.training.monitor import EpochProgressBar
from voslab.training.processes import await_children, handle_signals, is_peer_failure, with_process

log = logging.getLogger(__name__)


def main(config: DictConfig) -> None:
    """Train, test the checkpoint that `test` names, and write `metrics.json`."""
    if config.float32_matmul_precision is not None:
        _set_matmul_precision(config.float32_matmul_precision)
    L.seed_everything(config.seed, workers=True, verbose=False)
    if config.stages is not None:
        raise ConfigError("stages=[…] goes with -m, which starts a process per stage: python -m src.train -m stages=…")
    if config.test not in ("last", "best", None):
        raise ConfigError(f"test={config.test}: choose from last, best, null")
    output = Path(config.paths.output)
    resume = _last_checkpoint(config.resume, output)
    data: VOSDataModule = instantiate(config.data)
    module = training_module(config)
    bars = [EpochProgressBar()] if config.trainer.get("enable_progress_bar") else []
    trainer: L.Trainer = instantiate(
        config.trainer,
        callbacks=[*(instantiate(callback) for callback in config.callbacks.values() if callback is not None), *bars],
        logger=[instantiate(logger) for logger in config.logger.values() if logger is not None],
    )
    handle_signals(trainer)
    try:
        with claimed(output) if trainer.is_global_zero else nullcontext():
            _run(trainer, module, data, config, resume)
    except NotFiniteError as error:
        if trainer.is_global_zero:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(SIGNALS.exit_code(3))
    except (VOSError, RuntimeError) as error:
        if SIGNALS.received is not None and is_peer_failure(trainer, error):
            # The other process has stopped first.
            SIGNALS.stop()
        raise with_process(trainer, error) from error
    except (ValueError, ModuleNotFoundError) as error:
        if not _by_lightning(error):
            raise
        raise with_process(trainer, ConfigError(f"trainer: {' '.join(str(error).split())}")) from error
    finally:
        for logger in trainer.loggers:
            logger.finalize("finished")
        await_children(trainer)


def _run(trainer: L.Trainer, module: VOSModule, data: VOSDataModule, config: DictConfig, resume: Path | None) -> None:
    output = Path(config.paths.output)
    data.check(trainer.world_size)
    if resume is not None:
        check_resumed(resume, module.metadata)
    _prepare_loggers(trainer, data, config, resume)
    if trainer.is_global_zero:
        remove_partial(output, output / "checkpoints", output / "gallery")
        print(describe_outputs(output, describe_run_folder(config)), flush=True)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    results = validated = dict(module.results)
    if config.test is not None:
        results = _test(trainer, module, data, output, config.test)
    # Searches use validation scores: the test set must not guide choices.
    results |= {f"val/{name}": value for name, value in validated.items() if name.endswith("Mean")}
    if trainer.is_global_zero:
        write_metrics(output, results)
        _record(config, results, data, module.table)
        checkpoint = _checkpoint(output, config.test)
        _report(output, results, checkpoint)
        # Last, because it may need a network connection.
        publish(trainer.loggers, output, checkpoint)


def _set_matmul_precision(value: str) -> None:
    try:
        torch.set_float32_matmul_precision(value)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"float32_matmul_precision={value}: choose from highest, high, medium") from error


def _prepare_loggers(trainer: L.Trainer, data: VOSDataModule, config: DictConfig, resume: Path | None) -> None:
    for logger in trainer.loggers:
        if resume is not None and isinstance(logger, Curves) and trainer.is_global_zero:
            logger.resume(resume.parents[1], read_archive(resume)["global_step"])
        logger.log_hyperparams(plain(config))


def _test(trainer: L.Trainer, module: VOSModule, data: VOSDataModule, output: Path, which: str) -> dict[str, float]:
    # Processes that Lightning did not start may have other run folders.
    folder: Path = trainer.strategy.broadcast(output) / "checkpoints"
    checkpoint = _checkpoint(folder.parent, which)
    if not checkpoint.is_file():
        raise ConfigError(f"test={which}: {checkpoint} does not exist")
    trainer.test(module, datamodule=data, ckpt_path=checkpoint, weights_only=True, verbose=False)
    if trainer.is_global_zero:
        if which == "best" and {video.images for video in data.val_videos} & {v.images for v in data.test_videos}:
            log.warning("test=best: this checkpoint was chosen by validation on videos that are now tested")
        write_per_sequence(output, module.table, data.test_videos)
    parameters = sum(parameter.numel() for parameter in module.segmenter.parameters())
    metadata = read_checkpoint(checkpoint).metadata
    cost = {} if metadata is None else costs(parameters, metadata.training)
    return {**collect_results(module, data.test_videos), **cost}


def _checkpoint(output: Path, which: str | None) -> Path:
    """Return the checkpoint to test: `last.ckpt`, or `best.ckpt` if there was a validation; None selects the best."""
    best, last = (output / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    return last if which == "last" or not best.is_file() else best


def _record(config: DictConfig, results: dict[str, float], data: VOSDataModule, table: ScoreTable) -> None:
    if config.record is not None:
        root = Path(config.paths.experiments)
        # Without a test, the results are those of the last validation.
        videos = data.val_videos if config.test is None else data.test_videos
        rows = per_sequence(table, videos)
        path = write_record(root, config.record, "train", results, config, videos, rows)
        print(f"record: {path}")


def _report(output: Path, results: dict[str, float], checkpoint: Path) -> None:
    shown = "  ".join(f"{key} {value:.4f}" for key, value in results.items() if key.endswith("Mean"))
    print(f"{shown}\nrun folder: {output}")
    if checkpoint.is_file():
        print(after_training(output, checkpoint), flush=True)


def _by_lightning(error: Exception) -> bool:
    """Return whether Lightning raised the error, because the trainer's settings do not fit the data."""
    raised = traceback.extract_tb(error.__traceback__)[-1].filename
    return Path(raised).is_relative_to(Path(L.__file__).parent)


def _last_checkpoint(folder: str | None, output: Path) -> Path | None:
    """Return the checkpoint of `resume`; `auto` selects this run's own folder, if it has a checkpoint."""
    if folder is None:
        return None
    checkpoint = (output if folder == "auto" else Path(folder)) / "checkpoints" / "last.ckpt"
    if checkpoint.is_file():
        return checkpoint
    if folder == "auto":
        return None
    raise CheckpointError(f"{checkpoint}: nothing to resume, the file does not exist")


if __name__ == "__main__":
    run("train")
