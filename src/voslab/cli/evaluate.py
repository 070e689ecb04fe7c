"""Scores a model or existing masks on a data set: `python -m src.evaluate checkpoint=FILE data=… output=DIR`.

Masks of a split without truth are packed into a submission for its server. An existing submission can be checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import lightning as L
from omegaconf import DictConfig

from voslab.cli.contact_sheet import write_sheet
from voslab.cli.entry import run
from voslab.cli.instantiate import instantiate
from voslab.cli.messages import describe_key_frames, describe_outputs, next_commands
from voslab.cli.models import load_model
from voslab.cli.results import collect_results, costs, masks_hash, per_sequence, write_metrics, write_per_sequence
from voslab.core import ConfigError, DataError
from voslab.data import VideoSequence
from voslab.data.datamodule import VOSDataModule
from voslab.data.submission import check_submission, write_submission
from voslab.reporting.run_record import write_record
from voslab.training.evaluation import EvaluationModule, mask_sinks, segment_video
from voslab.training.predictions import read_predictions
from voslab.training.processes import await_children, handle_signals
from voslab.video.mask_formats.options import WarnOnce


def main(config: DictConfig) -> None:
    """Write `metrics.json` and `per_sequence.csv`; for a model also `masks/`, and `sheet.jpg` or `submission.zip`."""
    L.seed_everything(config.seed, workers=True, verbose=False)
    output = Path(config.output)
    data: VOSDataModule = instantiate(config.data)
    if config.predictions is not None and pack_or_check(config, data, output):
        return
    module, cost = _module(config, output, data)
    trainer: L.Trainer = instantiate(config.trainer, logger=False, enable_checkpointing=False)
    handle_signals(trainer)
    if trainer.is_global_zero:
        print(describe_outputs(output, _contents(config)), flush=True)
    try:
        trainer.test(module, datamodule=data, verbose=False)
    finally:
        await_children(trainer)
    if not trainer.is_global_zero:
        return
    videos = data.test_videos
    results = {**collect_results(module, videos), **cost}
    write_per_sequence(output, module.table, videos)
    path = write_metrics(output, results)
    if config.record is not None:
        root = Path(config.paths.experiments)
        rows = per_sequence(module.table, videos)
        mask_hash = masks_hash(output / "masks", videos) if config.predictions is None else None
        record = write_record(root, config.record, "evaluate", results, config, videos, rows, mask_hash)
        print(f"record: {record}")
    if _lacks_truth(videos):
        # Scores were gathered from all processes, so all of them have written their masks.
        _pack(output, output / "masks", videos)
    else:
        if config.predictions is None:
            write_sheet(output / "sheet.jpg", output / "masks", videos, module.table)
        shown = ("J&F-Mean", "J-Mean", "F-Mean", "G-Mean")
        print("  ".join(f"{key} {results[key]:.4f}" for key in shown if key in results))
    if module.coded:
        print(describe_key_frames(round(float(module.keys.compute())), round(float(module.frames.compute()))))
    print(f"results: {path}")
    if config.checkpoint is not None:
        use = ["segment", f"checkpoint={config.checkpoint}", "video=FILE", "mask=FILE", "output=DIR"]
        print(next_commands(use, ["dashboard", f"runs={output}"]))


def _contents(config: DictConfig) -> dict[str, str]:
    numbers = {"metrics.json, per_sequence.csv": "scores"}
    if config.predictions is not None:
        return numbers
    return {**numbers, "masks/<sequence>/": "a PNG per frame", "sheet.jpg": "best, median and worst sequences"}


def pack_or_check(config: DictConfig, data: VOSDataModule, output: Path) -> bool:
    """Pack existing masks, or check a zip, if the split has no truth.

    Args:
        config: configuration of `src.evaluate`.
        data: the data module.
        output: folder of `submission.zip`.

    Returns:
        Whether the split has no truth.

    Raises:
        ConfigError: if the masks do not exist, or are in a zip although they are to be scored.
        DataError: if a server would reject the masks; the faults are printed, one per line.
    """
    if config.checkpoint is not None or config.get("model") is not None:
        raise ConfigError("predictions=… cannot be combined with checkpoint or model")
    predictions = Path(config.predictions)
    if not predictions.exists():
        raise ConfigError(f"predictions={predictions}: no such folder or zip")
    data.setup("test")
    videos = data.test_videos
    if _lacks_truth(videos):
        if predictions.is_dir():
            _pack(output, predictions, videos)
        else:
            _check(predictions, videos)
        return True
    if not predictions.is_dir():
        raise ConfigError(f"predictions={predictions}: masks to be scored must be in a folder, not a zip")
    return False


def _lacks_truth(videos: Sequence[VideoSequence]) -> bool:
    return bool(videos) and not any(video.truth for video in videos)


def _pack(output: Path, masks: Path, videos: Sequence[VideoSequence]) -> None:
    target = output / "submission.zip"
    write_submission(target, masks, videos)
    _check(target, videos)


def _check(path: Path, videos: Sequence[VideoSequence]) -> None:
    """Print the faults of a submission, one per line. Raises `DataError` if a server would reject it."""
    faults = check_submission(path, videos)
    for fault in faults:
        print(fault)
    if grave := sum(1 + fault.more for fault in faults if not fault.warning):
        raise DataError(f"{path}: would be rejected, {grave} {'fault' if grave == 1 else 'faults'} (listed above)")
    print(f"submission: {path} ({len(videos)} sequences, no faults)")


def _module(config: DictConfig, output: Path, data: VOSDataModule) -> tuple[EvaluationModule, dict[str, float]]:
    """Return the module that scores, and the cost of its network and training as metrics."""
    if config.predictions is not None:
        alone = len(data.test_videos) == 1
        read = partial(read_predictions, Path(config.predictions), warn=WarnOnce(), alone=alone)
        return EvaluationModule(read), {}
    model = load_model(config)
    model.warn_if_random()
    predict = partial(segment_video, model.segmenter, model.settings, codec_source=model.codec_source)
    coded = model.codec_source is not None
    module = EvaluationModule(predict, mask_sinks(output), model.segmenter, coded).eval()
    return module, costs(model.parameter_count, model.metadata.training)


if __name__ == "__main__":
    run("evaluate")
