"""The DAVIS protocol: which frames are scored, the statistics of a series of scores, and the score of a data set.

The data set score is the mean over objects, not over sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from voslab.core import DataError
from voslab.metrics.boundary import boundary_f
from voslab.metrics.region import jaccard

_COLUMNS = 5


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one object's scores over time, or their mean over objects. NaN where there are no scores.

    Attributes:
        mean: mean score; NaN scores are left out.
        recall: share of frames whose score is above 0.5; NaN is not above.
        decay: mean of the first quarter minus mean of the last quarter of the frames.
    """

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """One object of one sequence; `frames` counts its scored frames."""

    sequence: int
    object: int
    frames: int
    region: Statistics
    boundary: Statistics


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores of every object, sorted by sequence and object, and their means over objects."""

    objects: tuple[ObjectScore, ...]
    region: Statistics
    boundary: Statistics

    def metrics(self) -> dict[str, float]:
        """The seven numbers of the data set under their usual names."""
        return {
            "J&F-Mean": (self.region.mean + self.boundary.mean) / 2,
            "J-Mean": self.region.mean,
            "J-Recall": self.region.recall,
            "J-Decay": self.region.decay,
            "F-Mean": self.boundary.mean,
            "F-Recall": self.boundary.recall,
            "F-Decay": self.boundary.decay,
        }

    def sequences(self, measure: Literal["J&F", "J", "F"] = "J&F") -> dict[int, float]:
        """The mean of every sequence that has one, over its objects."""
        found: dict[int, list[float]] = {}
        for row in self.objects:
            both = {"J": row.region.mean, "F": row.boundary.mean}
            found.setdefault(row.sequence, []).append(both.get(measure, sum(both.values()) / 2))
        means = {sequence: sum(values) / len(values) for sequence, values in found.items()}
        return {sequence: mean for sequence, mean in means.items() if np.isfinite(mean)}


def scored_frames(count: int, first: int = 0, last: bool = False) -> range:
    """Frames of a sequence of `count` frames that are scored, for an object whose mask is given in frame `first`.

    The given frame is not scored, nor is the last frame of the sequence unless `last` says so (YouTube-VOS).
    """
    return range(first + 1, count if last else count - 1)


def statistics(series: Sequence[float] | NDArray[np.floating]) -> Statistics:
    """Mean, recall and decay of the scores of consecutive frames."""
    scores = np.asarray(series, np.float64)
    if not scores.size:
        return Statistics(np.nan, np.nan, np.nan)
    # Neighbouring quarters share their edge frame. With 8-bit edges, as once published, series above 256 frames break.
    edges = np.round(np.linspace(1, scores.size, 5) + 1e-10).astype(np.int64) - 1
    first, last = scores[: edges[1] + 1], scores[edges[3] :]
    return Statistics(_mean(scores), float((scores > 0.5).mean()), _mean(first) - _mean(last))


def score_frame(
    prediction_ids: NDArray[np.integer], truth_ids: NDArray[np.integer], objects: Sequence[int]
) -> NDArray[np.float64]:
    """J and F of each object, O x 2, from H W label maps. Pixels of other ids are background.

    Raises:
        DataError: if the label maps differ in size.
    """
    pairs = ((prediction_ids == i, truth_ids == i) for i in objects)
    scores = [(jaccard(prediction, truth), boundary_f(prediction, truth)) for prediction, truth in pairs]
    return np.array(scores, np.float64).reshape(-1, 2)


def davis_score(rows: NDArray[np.float64]) -> ScoreTable:
    """Score of a data set from N x 5 rows [sequence, object, frame, J, F], in any order.

    Raises:
        DataError: if a frame of an object was scored twice, or the rows have another shape.
    """
    if rows.ndim != 2 or rows.shape[1] != _COLUMNS:
        raise DataError(f"expected rows [sequence, object, frame, J, F], got an array of shape {rows.shape}")
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    keys = rows[:, :3]
    twice = np.flatnonzero((keys[1:] == keys[:-1]).all(axis=1))
    if twice.size:
        sequence, thing, frame = keys[twice[0]].astype(np.int64)
        raise DataError(f"sequence {sequence}, frame {frame}, object {thing}: scored twice")
    starts = np.flatnonzero((keys[1:, :2] != keys[:-1, :2]).any(axis=1)) + 1
    objects = tuple(_object_score(part) for part in np.split(rows, starts) if len(part))
    return ScoreTable(objects, _over_objects([o.region for o in objects]), _over_objects([o.boundary for o in objects]))


class DAVISScore(Metric):
    """Collects rows [sequence, object, frame, J, F] (float64, on the CPU, whatever device or precision the model has).

    The result depends neither on the order of the rows nor on how they are spread over processes. A process may have
    no rows at all; but each frame of an object must be scored in one process only, or computing raises `DataError`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    rows: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, sequence: int, frames: Sequence[int], objects: Sequence[int], scores: NDArray[np.float64]) -> None:
        """Take the scores (T x O x 2: J, F) of the objects of T frames of a sequence, best all of them at once.

        A small tensor that outlives a large picture keeps the allocator from returning the picture's memory, so frame
        by frame a long evaluation would grow by gigabytes.

        Args:
            sequence: number of the sequence in the data set, the same in all processes.
            frames: indices of the frames; frames that the protocol does not score must not be passed.
            objects: ids of the O objects.
            scores: what `score_frame` returns for each frame.

        Raises:
            DataError: if there is not one pair of scores for each frame and object.
        """
        if scores.shape != (len(frames), len(objects), 2):
            raise DataError(
                f"sequence {sequence}, {len(frames)} frames, {len(objects)} objects: scores of shape {scores.shape}"
            )
        rows = np.empty((len(frames), len(objects), _COLUMNS), np.float64)
        rows[..., 0], rows[..., 1], rows[..., 3:] = sequence, objects, scores
        rows[..., 2] = np.asarray(frames)[:, None]
        self.rows.append(torch.from_numpy(rows.reshape(-1, _COLUMNS)))

    def compute(self) -> dict[str, float]:
        """The seven numbers of `ScoreTable.metrics`, the same in every process. NaN without rows."""
        return davis_score(self._table()).metrics()

    def score(self) -> ScoreTable:
        """The scores of every object. With several processes, all of them must call it, as with `compute`."""
        local = not self._is_synced
        with self.sync_context(should_sync=local and self._to_sync, should_unsync=local):
            table = self._table()
        return davis_score(table)

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any | None = None,
        should_sync: bool = True,
        distributed_available: Callable[..., Any] | None = None,
    ) -> None:
        """Gather the rows of all processes: torchmetrics' own, by a function that copes with processes without rows."""
        super().sync(dist_sync_fn or self._gather, process_group, should_sync, distributed_available)

    def _gather(self, rows: Tensor, group: Any = None) -> list[Tensor]:
        # torchmetrics gives a process without rows a 1-D tensor of the model's type, which N x 5 float64 cannot meet.
        rows = rows.reshape(rows.numel() // _COLUMNS, _COLUMNS)
        return gather_all_tensors(rows.to(self.device, torch.float64), group)

    def _table(self) -> NDArray[np.float64]:
        # A list while the rows are local, one tensor once they are gathered; an empty list cannot be concatenated.
        rows = dim_zero_cat(self.rows) if len(self.rows) else torch.empty(0, _COLUMNS, dtype=torch.float64)
        return rows.cpu().numpy()

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> Self:
        # `module.to(torch.bfloat16)` must not round the scores, and not every device has float64.
        super()._apply(fn, exclude_state=(*exclude_state, "rows"))
        return self


def _object_score(rows: NDArray[np.float64]) -> ObjectScore:
    return ObjectScore(int(rows[0, 0]), int(rows[0, 1]), len(rows), statistics(rows[:, 3]), statistics(rows[:, 4]))


def _over_objects(parts: Sequence[Statistics]) -> Statistics:
    if not parts:
        return Statistics(np.nan, np.nan, np.nan)
    mean, recall, decay = np.mean([(part.mean, part.recall, part.decay) for part in parts], axis=0).tolist()
    return Statistics(mean, recall, decay)


def _mean(scores: NDArray[np.float64]) -> float:
    """Mean of the scores that are numbers; NaN if none is."""
    numbers = scores[~np.isnan(scores)]
    return float(numbers.mean()) if numbers.size else float("nan")
