"""Segments a folder of videos in one process, or in its share of several processes."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from voslab.cli.entry import plain
from voslab.cli.messages import describe_outputs
from voslab.cli.models import load_model, model_spec
from voslab.cli.process_shares import ProcessGroup, balanced_shares, gather, process_group
from voslab.cli.saved_outputs import SavedOutput
from voslab.cli.segment_video import open_inputs, progress_bar, segment_video
from voslab.cli.video_pairs import VideoPair, VideoPairs, find_pairs, video_length
from voslab.core import ConfigError, VOSError, atomic_write, cache_key
from voslab.core.signals import SIGNALS
from voslab.engine import Prediction, Throughput
from voslab.engine.device import find_device
from voslab.predictor import Predictor

MARKER = "finished.json"
"""File in a video's output folder that is written when all of its outputs are complete."""
_NOT_IN_KEY = ("video", "mask", "output", "paths", "hydra")
_log = logging.getLogger(__name__)


@dataclass
class Summary:
    """What became of the videos of a process.

    Attributes:
        segmented: number of videos that were segmented.
        skipped: number of videos that an earlier run finished.
        failures: reason by name of the video.
    """

    segmented: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def segment_many(config: DictConfig, saved: Mapping[str, SavedOutput]) -> None:
    """Segment every video of `config.video` with the masks of the same name in `config.mask`.

    The outputs of a video are in `output/NAME/`. A video that cannot be segmented does not stop the others. Videos
    that an earlier run finished with the same options are skipped.

    Args:
        config: configuration of `src.segment`.
        saved: outputs to write.

    Raises:
        VOSError: if there is no pair, or the model cannot be loaded.
        SystemExit: with code 1 if a video failed.
    """
    group = process_group()
    if group.count > 1 and not any(one.startswith("output=") for one in HydraConfig.get().overrides.task):
        raise ConfigError("say output=DIR, the same for all processes: the default holds the time of the start")
    found, output = find_pairs(Path(config.video), Path(config.mask)), Path(config.output)
    lengths = [video_length(pair.video) for pair in found.pairs]
    shares = balanced_shares(lengths, group.count)
    share = [(found.pairs[index], lengths[index]) for index in shares[group.rank]]
    predictor = Predictor(load_model(config), _device(config.engine.device, group))
    predictor.model.warn_if_random()
    if group.rank == 0:
        _describe(config, found, predictor, saved)
    if group.count > 1:
        print(f"process {group.rank + 1} of {group.count}: {len(share)} of {len(found.pairs)} videos", flush=True)
    run = _Run(config, predictor, saved, output)
    summaries = gather(run.segment(share, show=group.rank == 0))
    if group.rank == 0 or len(summaries) == 1:
        _report(summaries, found)
    if any(summary.failures for summary in summaries):
        sys.exit(1)


class _Run:
    """Segments the videos of one process."""

    def __init__(
        self, config: DictConfig, predictor: Predictor, saved: Mapping[str, SavedOutput], output: Path
    ) -> None:
        self.config, self.predictor, self.saved, self.output = config, predictor, saved, output
        self.summary = Summary()
        spec = model_spec(config)
        files = [path for path in (spec.checkpoint, spec.weights, spec.base_weights) if path is not None]
        options = {key: value for key, value in plain(config).items() if key not in _NOT_IN_KEY}
        options["engine"] = {**options["engine"], "device": None}
        self._key = cache_key(options, [path for path in files if path.exists()])

    def segment(self, share: Sequence[tuple[VideoPair, int]], show: bool) -> Summary:
        """Segment pairs, each with its number of frames, and show the progress over all of them."""
        with progress_bar(show) as progress:
            task = progress.add_task("segment", total=sum(length for _, length in share), speed="")
            before = 0

            def count(prediction: Prediction, throughput: Throughput) -> None:
                speed = f"{throughput.frames_per_second:.1f} frames/s"
                progress.update(task, completed=before + throughput.frames, speed=speed)

            for number, (pair, length) in enumerate(share, 1):
                progress.update(task, description=f"{pair.name} ({number}/{len(share)})")
                done = self.summary.segmented + self.summary.skipped
                SIGNALS.detail = f" after {done} videos, which are in {self.output}; the same command continues"
                self._segment_pair(pair, count)
                before += length
                progress.update(task, completed=before)
        return self.summary

    def _segment_pair(self, pair: VideoPair, count: Callable[[Prediction, Throughput], None]) -> None:
        folder = self.output / pair.name
        marker = folder / MARKER
        try:
            key = cache_key(self._key, _files(pair.video), _files(pair.mask))
            if _is_finished(marker, key) and all((folder / each.file).exists() for each in self.saved.values()):
                self.summary.skipped += 1
                return
            inputs = open_inputs(self.config, pair.video, pair.mask)
            marker.unlink(missing_ok=True)
            throughput = segment_video(self.config, inputs, self.predictor, self.saved, folder, count)
            content = {"key": key, "frames": throughput.frames, "objects": inputs.objects}
            atomic_write(marker, json.dumps(content) + "\n")
            self.summary.segmented += 1
        except VOSError as error:
            self.summary.failures[pair.name] = str(error)
        except Exception as error:  # one video must not end the run over all others
            _log.exception("%s: not segmented", pair.video)
            self.summary.failures[pair.name] = f"{pair.video}: {type(error).__name__}: {error}"


def _files(path: Path) -> list[Path]:
    """Return the files that a cache key of a file or folder depends on."""
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def _is_finished(marker: Path, key: str) -> bool:
    try:
        return bool(json.loads(marker.read_text())["key"] == key)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _device(name: str, group: ProcessGroup) -> torch.device:
    """Return the device of a process: with `auto`, the processes of a machine use its GPUs in turn."""
    device = find_device(name)
    if name == "auto" and device.type == "cuda":
        return torch.device("cuda", group.local_rank % torch.cuda.device_count())
    return device


def _describe(config: DictConfig, found: VideoPairs, predictor: Predictor, saved: Mapping[str, SavedOutput]) -> None:
    print(f"{config.video}: {len(found.pairs)} videos with a mask, {predictor.model.name}")
    for path in found.videos:
        print(f"{path}: no mask of this name in {config.mask}, left out")
    for path in found.masks:
        print(f"{path}: no video of this name in {config.video}, left out")
    contents = {f"NAME/{each.file}": each.description for each in saved.values()}
    print(describe_outputs(Path(config.output), contents), flush=True)


def _report(summaries: Sequence[Summary], found: VideoPairs) -> None:
    segmented, skipped = (sum(getattr(one, name) for one in summaries) for name in ("segmented", "skipped"))
    failures = {name: reason for one in summaries for name, reason in one.failures.items()}
    parts = [f"{segmented} segmented"]
    parts += [f"{skipped} finished before"] if skipped else []
    parts += [f"{len(failures)} failed"] if failures else []
    alone = len(found.videos) + len(found.masks)
    parts += [f"{alone} left out without a partner"] if alone else []
    print(f"videos: {', '.join(parts)}", flush=True)
    for name, reason in sorted(failures.items()):
        print(f"failed: {name}: {' '.join(reason.split())}", file=sys.stderr, flush=True)
