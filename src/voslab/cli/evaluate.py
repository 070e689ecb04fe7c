"""Segment and score, or score masks that exist: `python -m src.evaluate checkpoint=FILE data=… output=DIR`.

A split without truth is segmented only, and packed for its server; a zip for it can be checked before it is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import lightning as L
from omegaconf import DictConfig

from voslab.cli.contact_sheet import write_sheet
from voslab.cli.entry import entry
from voslab.cli.instantiate import instantiate
from voslab.cli.messages import describe_outputs, following
from voslab.cli.models import load_model, warn_of_random
from voslab.cli.results import costs, masks_hash, measured, per_sequence, write_metrics, write_per_sequence
from voslab.core import ConfigError, DataError
from voslab.data import Sequence as Video
from voslab.data.datamodule import VOSDataModule
from voslab.data.submission import check_submission, write_submission
from voslab.reporting.run_record import write_record
from voslab.training.evaluation import EvaluationModule, from_files, mask_sinks, segmented
from voslab.training.processes import EndOnSignal


@entry("evaluate")
def main(config: DictConfig) -> None:
    """Write `metrics.json` and `per_sequence.csv`; when segmenting `masks/` and `sheet.jpg`, or `submission.zip`."""
    L.seed_everything(config.seed, workers=True, verbose=False)
    output = Path(config.output)
    data: VOSDataModule = instantiate(config.data)
    if config.predictions is not None and pack_or_check(config, data, output):
        return
    module, cost = _module(config, output)
    trainer: L.Trainer = instantiate(
        config.trainer, callbacks=[EndOnSignal()], logger=False, enable_checkpointing=False
    )
    if trainer.is_global_zero:
        print(describe_outputs(output, _contents(config)), flush=True)
    trainer.test(module, datamodule=data, verbose=False)
    if not trainer.is_global_zero:
        return
    videos = data.test_videos
    results = {**measured(module, videos), **cost}
    write_per_sequence(output, module.table, videos)
    path = write_metrics(output, results)
    if config.record is not None:
        root = Path(config.paths.experiments)
        rows = per_sequence(module.table, videos)
        made = masks_hash(output / "masks", videos) if config.predictions is None else None
        record = write_record(root, config.record, "evaluate", results, config, videos, rows, made)
        print(f"record: {record}")
    if _lacks_truth(videos):
        # The scores, empty as they are, were gathered from all processes: all of them have written their masks.
        _pack(output, output / "masks", videos)
    else:
        if config.predictions is None:
            write_sheet(output / "sheet.jpg", output / "masks", videos, module.table)
        shown = ("J&F-Mean", "J-Mean", "F-Mean", "G-Mean")
        print("  ".join(f"{key} {results[key]:.4f}" for key in shown if key in results))
    print(f"results: {path}")
    if config.checkpoint is not None:
        use = ["src.segment", f"checkpoint={config.checkpoint}", "video=FILE", "mask=FILE", "output=DIR"]
        print(following(use, ["src.dashboard", f"runs={output}"]))


def _contents(config: DictConfig) -> dict[str, str]:
    numbers = {"metrics.json, per_sequence.csv": "scores"}
    if config.predictions is not None:
        return numbers
    return {**numbers, "masks/<sequence>/": "a PNG per frame", "sheet.jpg": "best, median and worst sequences"}


def pack_or_check(config: DictConfig, data: VOSDataModule, output: Path) -> bool:
    """Pack a folder of masks, or check a zip, if their split has no truth to score them by; says whether it has none.

    Raises:
        ConfigError: nothing is there, or a zip is to be scored.
        DataError: a server would not take the masks; what is wrong is printed, a line each.
    """
    if config.checkpoint is not None or config.get("model") is not None:
        raise ConfigError("predictions=… goes without checkpoint and model: the masks exist")
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
        raise ConfigError(f"predictions={predictions}: to be scored, masks must be unpacked")
    return False


def _lacks_truth(videos: Sequence[Video]) -> bool:
    return bool(videos) and not any(video.truth for video in videos)


def _pack(output: Path, masks: Path, videos: Sequence[Video]) -> None:
    target = output / "submission.zip"
    write_submission(target, masks, videos)
    _check(target, videos)


def _check(path: Path, videos: Sequence[Video]) -> None:
    """Print what is wrong with a submission, a line each. Raises `DataError` if a server would mind."""
    faults = check_submission(path, videos)
    for fault in faults:
        print(fault)
    if grave := sum(1 + fault.more for fault in faults if not fault.warning):
        raise DataError(f"{path}: not fit to be sent, {grave} {'fault' if grave == 1 else 'faults'} (listed above)")
    print(f"submission: {path} ({len(videos)} sequences, nothing wrong)")


def _module(config: DictConfig, output: Path) -> tuple[EvaluationModule, dict[str, float]]:
    """What scores, and what its network and the training of it cost."""
    if config.predictions is not None:
        return EvaluationModule(partial(from_files, Path(config.predictions))), {}
    model = load_model(config)
    warn_of_random(config, model)
    predict = partial(segmented, model.segmenter, model.settings, codec_source=model.codec_source)
    module = EvaluationModule(predict, mask_sinks(output), model.segmenter).eval()
    return module, costs(model.parameters, model.training)


if __name__ == "__main__":
    main()
