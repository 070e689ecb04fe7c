"""Fit, validate with J&F, test: `python -m src.train experiment=crvos_davis paths.data=DIR`."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from omegaconf import DictConfig

from src.core import CheckpointError, ConfigError
from src.data.datamodule import VOSDataModule
from src.launch.entry import entry, plain
from src.launch.instantiate import instantiate
from src.launch.models import training_module
from src.launch.results import measured, write_metrics, write_per_sequence, write_record
from src.training.module import VOSModule


@entry("train")
def main(config: DictConfig) -> None:
    """Compose, train, test the checkpoint that `test` names, write `metrics.json`."""
    L.seed_everything(config.seed, workers=True, verbose=False)
    resume = _last_checkpoint(config.resume)
    data: VOSDataModule = instantiate(config.data)
    module = training_module(config)
    trainer: L.Trainer = instantiate(
        config.trainer,
        callbacks=[instantiate(callback) for callback in config.callbacks.values() if callback is not None],
        logger=[instantiate(logger) for logger in config.logger.values() if logger is not None],
    )
    for logger in trainer.loggers:
        logger.log_hyperparams(plain(config))
    output = Path(config.paths.output)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        results = module.results
        if config.test is not None:
            results = _test(trainer, module, data, output, config.test)
        if trainer.is_global_zero:
            write_metrics(output, results)
            _record(config, results, data)
            _report(output, results)
    finally:
        for logger in trainer.loggers:
            logger.finalize("finished")


def _test(trainer: L.Trainer, module: VOSModule, data: VOSDataModule, output: Path, which: str) -> dict[str, float]:
    checkpoint = output / "checkpoints" / f"{which}.ckpt"
    if which == "best" and not checkpoint.is_file():
        checkpoint = checkpoint.with_name("last.ckpt")
    if not checkpoint.is_file():
        raise ConfigError(f"test={which}: there is no {checkpoint}")
    trainer.test(module, datamodule=data, ckpt_path=checkpoint, weights_only=True, verbose=False)
    if trainer.is_global_zero:
        write_per_sequence(output, module.table, data.test_videos)
    return measured(module, data.test_videos)


def _record(config: DictConfig, results: dict[str, float], data: VOSDataModule) -> None:
    if config.record is not None:
        path = write_record(Path(config.paths.experiments), config.record, "train", results, config, data.test_videos)
        print(f"record: {path}")


def _report(output: Path, results: dict[str, float]) -> None:
    shown = "  ".join(f"{key} {value:.4f}" for key, value in results.items() if key.endswith("Mean"))
    print(f"{shown}\nrun folder: {output}")


def _last_checkpoint(folder: str | None) -> Path | None:
    if folder is None:
        return None
    checkpoint = Path(folder) / "checkpoints" / "last.ckpt"
    if not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint}: there is nothing to resume from")
    return checkpoint


if __name__ == "__main__":
    main()
