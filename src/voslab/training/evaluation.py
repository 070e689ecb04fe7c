"""Scores a segmenter, or existing masks, on whole sequences. Validation uses the same code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics import Metric, SumMetric

from voslab.core import DataError, Segmenter, object_ids
from voslab.data import EvaluationItem, VideoSequence
from voslab.engine import Prediction, Settings, Sink, Throughput, consume, mask_sink, run
from voslab.engine.codec_source import CodecSource
from voslab.metrics import DAVISScore, davis_score, holders, identity_switches, score_frame, scored_frames

Predict = Callable[[VideoSequence], Iterable[Prediction]]
Sinks = Callable[[VideoSequence], Sequence[Sink]]


def segment_video(
    segmenter: Segmenter[Any], settings: Settings, video: VideoSequence, codec_source: CodecSource | None = None
) -> Iterator[Prediction]:
    """Segment a sequence from its given masks.

    Args:
        segmenter: the network.
        settings: settings of the engine.
        video: the sequence.
        codec_source: source of codec side data; None for a method that uses images only.

    Returns:
        Predictions in the order of the frames.

    Raises:
        DataError: if codec side data is requested for a sequence that is scaled up, or true masks that are needed are
            missing.
    """
    images = (video.image(i) for i in range(len(video)))
    frames = images if codec_source is None else codec_source.frames(video.source)
    return run(segmenter, frames, video.given_masks(), settings, mask_scope="partial", truth=video.labels)


class SegmentedVideo(NamedTuple):
    """Predicted label maps of a sequence: what `Trainer.predict` returns for each.

    Attributes:
        name: name of the sequence.
        ids: T H W object ids; 0 is background.
    """

    name: str
    ids: NDArray[np.uint16]


class _Result(NamedTuple):
    """Results of a sequence besides its scores.

    Attributes:
        throughput: throughput over all frames.
        first_frame: seconds of the first frame with an object.
        switches: identity switches.
        several: whether there are several objects.
    """

    throughput: Throughput
    first_frame: float = 0.0
    switches: int = 0
    several: bool = False


def no_sinks(video: VideoSequence) -> Sequence[Sink]:
    """Return no sinks: predictions are scored only."""
    return ()


class EvaluationModule(L.LightningModule):
    """Scores sequences, one per batch.

    Args:
        predict: returns the predictions of a sequence.
        sinks: returns the sinks that receive the predictions of a sequence.
        segmenter: the network that predicts, which is moved to the trainer's device; None if masks are read.
        coded: whether frames have codec data, so that the share of key frames is a result.
    """

    def __init__(
        self,
        predict: Predict,
        sinks: Sinks = no_sinks,
        segmenter: Segmenter[Any] | None = None,
        coded: bool = False,
    ) -> None:
        super().__init__()
        self.coded = coded
        self.segmenter: Any = segmenter
        self.predict_video = predict
        self.sinks = sinks
        self.score = DAVISScore()
        self.frames = SumMetric()
        self.seconds = SumMetric()
        self.first_frame = SumMetric()
        self.videos = SumMetric()
        self.keys = SumMetric()
        self.switches = SumMetric()
        self.several = SumMetric()
        self.results: dict[str, float] = {}
        self.table = davis_score(np.zeros((0, 5)))

    def evaluate_item(self, item: EvaluationItem) -> Throughput:
        """Predict one sequence, and score each object in the frames after the one in which it is given."""
        # A negative index is a placeholder in a process without sequences.
        result = _Result(Throughput()) if item.index < 0 else self._evaluate(item.index, item.sequence)
        throughput = result.throughput
        self.first_frame.update(result.first_frame)
        self.switches.update(result.switches)
        self.several.update(float(result.several))
        self.videos.update(float(item.index >= 0))
        self.frames.update(throughput.frames)
        self.seconds.update(throughput.seconds)
        self.keys.update(throughput.keys)
        return throughput

    def _evaluate(self, index: int, video: VideoSequence) -> _Result:
        starts = {i: frame for frame, labels in video.given_masks().items() for i in object_ids(labels)}
        objects = sorted(starts, key=lambda i: (starts[i], i))
        first = min(starts.values(), default=0)
        scored = scored_frames(len(video), first, video.scores_last)
        wanted = set(scored).intersection(video.output_frames) if video.truth else set()
        scores: dict[int, NDArray[np.float64]] = {}
        held_by: dict[int, list[int]] = {i: [] for i in objects}
        first_frame = 0.0

        def score(prediction: Prediction, _: Throughput) -> None:
            nonlocal first_frame
            if prediction.index == first:
                first_frame = prediction.seconds
            if prediction.index in wanted and (truth := video.labels(prediction.index)) is not None:
                known = [i for i in objects if starts[i] < prediction.index]
                ids = _fit(prediction.ids, truth.shape, video, prediction.index)
                scores[prediction.index] = score_frame(np.minimum(ids, 1) if video.merge else ids, truth, known)
                if len(objects) > 1:
                    for i, holder in zip(known, holders(ids, truth, known).tolist(), strict=True):
                        held_by[i].append(holder)

        throughput = consume(self.predict_video(video), self.sinks(video), score)
        for start in sorted(set(starts.values())):
            slots = [slot for slot, i in enumerate(objects) if starts[i] == start]
            frames = [frame for frame in scores if frame > start]
            if frames:
                together = np.stack([scores[frame][slots] for frame in frames])
                self.score.update(index, frames, [objects[slot] for slot in slots], together)
        switches = sum(identity_switches(held, i) for i, held in held_by.items())
        return _Result(throughput, first_frame, switches, len(objects) > 1)

    def conclude(self) -> dict[str, float]:
        """Gather the scores of all processes, which must all call this, and set `results` and `table`.

        Returns:
            `results`: scores under the names of the official DAVIS tool, speed and memory.
        """
        self.table = self.score.score()
        seconds = float(self.seconds.compute())
        speed = float(self.frames.compute()) / seconds if seconds > 0 else 0.0
        memory = peak_memory_mb(self.device)
        # Work that a method does once per video, such as tuning, is part of the first frame with an object.
        first_frame = float(self.first_frame.compute()) / max(1.0, float(self.videos.compute()))
        measured = {"frames_per_second": speed, "first_frame_seconds": first_frame, "peak_memory_mb": memory}
        if self.coded:
            measured["key_frames"] = float(self.keys.compute()) / max(1.0, float(self.frames.compute()))
        if self.several.compute() > 0:
            measured["identity_switches"] = float(self.switches.compute())
        self.results = {**self.table.metrics(), **measured}
        return self.results

    def reset_metrics(self) -> None:
        """Reset all metrics."""
        for metric in self.children():
            if isinstance(metric, Metric):
                metric.reset()

    def on_test_epoch_start(self) -> None:
        """Reset all metrics, including the peak memory of a preceding training."""
        self.reset_metrics()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def test_step(self, item: EvaluationItem) -> None:
        """Predict and score one sequence."""
        self.evaluate_item(item)

    def predict_step(self, item: EvaluationItem) -> SegmentedVideo | None:
        """Segment one sequence without scoring it; the sinks receive the predictions too.

        Args:
            item: the sequence.

        Returns:
            Label maps of all frames; None for the placeholder of a process without sequences.
        """
        if item.index < 0:
            return None
        ids: list[NDArray[np.uint16]] = []
        video = item.sequence
        consume(self.predict_video(video), self.sinks(video), lambda one, _: ids.append(one.ids.astype(np.uint16)))
        return SegmentedVideo(video.name, np.stack(ids))

    def on_test_epoch_end(self) -> None:
        """Log the results under `test/`."""
        self.log_dict({f"test/{key}": value for key, value in self.conclude().items()}, sync_dist=True)


def peak_memory_mb(device: torch.device) -> float:
    """Return peak memory in MiB: of the accelerator, or the resident set of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # The module `resource` is missing on Windows.
    with suppress(ImportError):
        import resource
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    return 0.0


def mask_sinks(output: Path) -> Sinks:
    """Return sinks that write `output/masks/<sequence>/<frame>.png` for the frames that the data set asks for."""

    def sinks(video: VideoSequence) -> Sequence[Sink]:
        return (mask_sink(output / "masks" / video.name, {i: video.images[i].stem for i in video.output_frames}),)

    return sinks


def _fit(ids: NDArray[np.int64], size: tuple[int, ...], video: VideoSequence, index: int) -> NDArray[np.int64]:
    if ids.shape != size:
        raise DataError(f"{video.images[index]}: its mask is {size}, the prediction {ids.shape}")
    return ids
