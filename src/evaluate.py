"""Segment and score, or score masks that exist: `python -m src.evaluate checkpoint=FILE data=… output=DIR`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import lightning as L
from omegaconf import DictConfig

from src.core import ConfigError
from src.data.datamodule import VOSDataModule
from src.launch.entry import entry
from src.launch.instantiate import instantiate
from src.launch.models import load_model
from src.launch.results import write_metrics, write_per_sequence, write_record
from src.training.evaluation import EvaluationModule, from_files, mask_sinks, segmented


@entry("evaluate")
def main(config: DictConfig) -> None:
    """Write `metrics.json`, `per_sequence.csv` and, when segmenting, `masks/<sequence>/<frame>.png`."""
    L.seed_everything(config.seed, workers=True, verbose=False)
    output = Path(config.output)
    module = _module(config, output)
    data: VOSDataModule = instantiate(config.data)
    trainer: L.Trainer = instantiate(config.trainer, logger=False, enable_checkpointing=False)
    trainer.test(module, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return
    write_per_sequence(output, module.table, data.test_videos)
    path = write_metrics(output, module.results)
    if config.record is not None:
        record = write_record(
            Path(config.paths.experiments), config.record, "evaluate", module.results, config, data.test_videos
        )
        print(f"record: {record}")
    print("  ".join(f"{key} {module.results[key]:.4f}" for key in ("J&F-Mean", "J-Mean", "F-Mean")))
    print(f"results: {path}")


def _module(config: DictConfig, output: Path) -> EvaluationModule:
    if config.predictions is None:
        model = load_model(config)
        predict = partial(segmented, model.segmenter, model.settings)
        return EvaluationModule(predict, mask_sinks(output), model.segmenter).eval()
    if config.checkpoint is not None or config.get("model") is not None:
        raise ConfigError("predictions=DIR scores masks that exist; it goes without checkpoint and model")
    folder = Path(config.predictions)
    if not folder.is_dir():
        raise ConfigError(f"predictions={folder}: no such folder")
    return EvaluationModule(partial(from_files, folder))


if __name__ == "__main__":
    main()
