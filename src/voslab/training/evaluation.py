"""Scores a segmenter, or masks that exist, on whole sequences. Training validates with the same code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics import SumMetric

from voslab.core import DataError, Segmenter
from voslab.core.prefetch import prefetch_map
from voslab.data import EvaluationItem
from voslab.data import Sequence as Video
from voslab.engine import Prediction, Settings, Sink, Throughput, consume, mask_sink, run
from voslab.engine.codec_source import CodecSource
from voslab.metrics import DAVISScore, davis_score, score_frame, scored_frames
from voslab.video import read_mask

Predict = Callable[[Video], Iterable[Prediction]]
Sinks = Callable[[Video], Sequence[Sink]]


def segmented(
    segmenter: Segmenter[Any], settings: Settings, video: Video, codec_source: CodecSource | None = None
) -> Iterator[Prediction]:
    """Run a segmenter over a sequence from the masks it is given, with `coding` on its frames as a codec has them.

    Raises:
        DataError: coded pictures of a sequence that is scaled up.
    """
    if codec_source is None:
        return run(segmenter, (video.image(i) for i in range(len(video))), video.given(), settings)
    return run(segmenter, codec_source.pictures(video.source), video.given(), settings)


def from_files(folder: Path, video: Video) -> Iterator[Prediction]:
    """Masks that any tool wrote as `folder/<sequence>/<frame>.png`; white on black is object 1.

    Only those of frames that are asked for are needed and read.

    Raises:
        DataError: naming the first mask that is missing.
    """
    empty = np.zeros((0, 0, 3), np.uint8)

    def read(index: int) -> Prediction:
        path = folder / video.name / f"{video.images[index].stem}.png"
        if not path.is_file():
            raise DataError(f"{path}: no such mask (sequence {video.name}, frame {index} of {len(video)})")
        return Prediction(index, empty, video.as_predicted(read_mask(path)).astype(np.int64), 0.0)

    return prefetch_map(read, video.asked)


def no_sinks(video: Video) -> Sequence[Sink]:
    """Predictions go nowhere but to the metric."""
    return ()


class EvaluationModule(L.LightningModule):
    """Scores sequences, one per batch.

    Args:
        predict: gives the predictions of a sequence.
        sinks: where the predictions of a sequence go besides the metric.
        segmenter: what predicts, so that it moves to the trainer's device; None where nothing has parameters.
    """

    def __init__(self, predict: Predict, sinks: Sinks = no_sinks, segmenter: Segmenter[Any] | None = None) -> None:
        super().__init__()
        self.segmenter: Any = segmenter
        self.predict_video = predict
        self.sinks = sinks
        self.score = DAVISScore()
        self.frames = SumMetric()
        self.seconds = SumMetric()
        self.begin = SumMetric()
        self.videos = SumMetric()
        self.results: dict[str, float] = {}
        self.table = davis_score(np.zeros((0, 5)))

    def evaluate_item(self, item: EvaluationItem) -> Throughput:
        """Predict one sequence, and score it where it has truth: each object behind the frame in which it is given."""
        # What has no number stands in for work in a process that has none.
        throughput, begin = (Throughput(), 0.0) if item.index < 0 else self._evaluate(item.index, item.sequence)
        self.begin.update(begin)
        self.videos.update(float(item.index >= 0))
        self.frames.update(throughput.frames)
        self.seconds.update(throughput.seconds)
        return throughput

    def _evaluate(self, index: int, video: Video) -> tuple[Throughput, float]:
        """The speed over all frames, and the seconds of the first that shows an object."""
        starts = {int(i): frame for frame, labels in video.given().items() for i in np.unique(labels) if i}
        objects = sorted(starts, key=lambda i: (starts[i], i))
        first = min(starts.values(), default=0)
        scored = scored_frames(len(video), first, video.scores_last)
        wanted = set(scored).intersection(video.asked) if video.truth else set()
        scores: dict[int, NDArray[np.float64]] = {}
        begin = 0.0

        def score(prediction: Prediction, _: Throughput) -> None:
            nonlocal begin
            if prediction.index == first:
                begin = prediction.seconds
            if prediction.index in wanted and (truth := video.labels(prediction.index)) is not None:
                known = [i for i in objects if starts[i] < prediction.index]
                ids = _fit(prediction.ids, truth.shape, video, prediction.index)
                scores[prediction.index] = score_frame(np.minimum(ids, 1) if video.merge else ids, truth, known)

        throughput = consume(self.predict_video(video), self.sinks(video), score)
        for start in sorted(set(starts.values())):
            places = [place for place, i in enumerate(objects) if starts[i] == start]
            frames = [frame for frame in scores if frame > start]
            if frames:
                together = np.stack([scores[frame][places] for frame in frames])
                self.score.update(index, frames, [objects[place] for place in places], together)
        return throughput, begin

    def conclude(self) -> dict[str, float]:
        """Gather from all processes (all must call it): `results` under the official names with the speed, `table`."""
        self.table = self.score.score()
        seconds = float(self.seconds.compute())
        speed = float(self.frames.compute()) / seconds if seconds > 0 else 0.0
        memory = peak_memory_mb(self.device)
        # What a method does once per video, such as tuning itself, is in the first frame with an object.
        begin = float(self.begin.compute()) / max(1.0, float(self.videos.compute()))
        measured = {"frames_per_second": speed, "begin_seconds": begin, "peak_memory_mb": memory}
        self.results = {**self.table.metrics(), **measured}
        return self.results

    def reset_metrics(self) -> None:
        """Forget what was scored."""
        for metric in (self.score, self.frames, self.seconds, self.begin, self.videos):
            metric.reset()

    def on_test_epoch_start(self) -> None:
        """Start from nothing; a GPU's memory of a training before is no part of it."""
        self.reset_metrics()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def test_step(self, item: EvaluationItem) -> None:
        """One sequence."""
        self.evaluate_item(item)

    def on_test_epoch_end(self) -> None:
        """Log under `test/`."""
        self.log_dict({f"test/{key}": value for key, value in self.conclude().items()}, sync_dist=True)


def peak_memory_mb(device: torch.device) -> float:
    """Most memory held so far, in MiB: the accelerator's, or this process's resident set on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # Not on Windows.
    with suppress(ImportError):
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return 0.0


def mask_sinks(output: Path) -> Sinks:
    """Sinks that write `output/masks/<sequence>/<frame>.png`, of the frames that are asked for."""

    def sinks(video: Video) -> Sequence[Sink]:
        return (mask_sink(output / "masks" / video.name, {i: video.images[i].stem for i in video.asked}),)

    return sinks


def _fit(ids: NDArray[np.int64], size: tuple[int, ...], video: Video, index: int) -> NDArray[np.int64]:
    if ids.shape != size:
        raise DataError(f"{video.images[index]}: its mask is {size}, the prediction {ids.shape}")
    return ids
