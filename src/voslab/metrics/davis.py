"""Computes the scores of the DAVIS protocol. The score of a data set is the mean over objects, not over sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError
from voslab.metrics.boundary import boundary_f
from voslab.metrics.region import jaccard

COLUMNS = 5
"""Number of columns of a score row: sequence, object, frame, J, F."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of one object's scores over time, or their mean over objects; NaN if there are no scores.

    Attributes:
        mean: mean score; NaN scores are ignored.
        recall: fraction of frames with a score above 0.5; NaN is not above.
        decay: mean of the first quarter of the frames minus mean of the last quarter.
    """

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """Scores of one object of one sequence.

    Attributes:
        sequence: number of the sequence.
        object: id of the object.
        frames: number of scored frames.
        region: statistics of J.
        boundary: statistics of F.
    """

    sequence: int
    object: int
    frames: int
    region: Statistics
    boundary: Statistics


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores of a data set.

    Attributes:
        objects: scores of all objects, sorted by sequence and object.
        region: statistics of J, mean over objects.
        boundary: statistics of F, mean over objects.
    """

    objects: tuple[ObjectScore, ...]
    region: Statistics
    boundary: Statistics

    def metrics(self) -> dict[str, float]:
        """Return the seven scores of the data set under the names of the official DAVIS tool."""
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
        """Return the mean score of each sequence over its objects; sequences without a finite mean are left out.

        Args:
            measure: region similarity J, boundary accuracy F, or the mean of both.
        """
        found: dict[int, list[float]] = {}
        for row in self.objects:
            both = {"J": row.region.mean, "F": row.boundary.mean}
            found.setdefault(row.sequence, []).append(both.get(measure, sum(both.values()) / 2))
        means = {sequence: sum(values) / len(values) for sequence, values in found.items()}
        return {sequence: mean for sequence, mean in means.items() if np.isfinite(mean)}


def scored_frames(count: int, first: int = 0, last: bool = False) -> range:
    """Return the frames that are scored for an object.

    The frame in which the mask is given is not scored. Neither is the last frame in DAVIS.

    Args:
        count: number of frames of the sequence.
        first: frame in which the object's mask is given.
        last: whether the last frame is scored (YouTube-VOS).

    Returns:
        frame indices.

    Example:
        >>> from voslab.metrics import scored_frames
        >>> list(scored_frames(5)), list(scored_frames(5, first=2, last=True))
        ([1, 2, 3], [3, 4])
    """
    return range(first + 1, count if last else count - 1)


def statistics(series: Sequence[float] | NDArray[np.floating]) -> Statistics:
    """Compute mean, recall and decay of the scores of consecutive frames.

    Args:
        series: scores in the order of the frames; may contain NaN.

    Returns:
        The statistics, all NaN if the series is empty.

    Example:
        >>> from voslab.metrics import statistics
        >>> statistics([1.0, 0.75, 0.75, 0.5])
        Statistics(mean=0.75, recall=0.75, decay=0.25)
    """
    scores = np.asarray(series, np.float64)
    if not scores.size:
        return Statistics(np.nan, np.nan, np.nan)
    # Adjacent quarters share a frame. The official tool once used 8-bit edges, which overflow above 256 frames.
    edges = np.round(np.linspace(1, scores.size, 5) + 1e-10).astype(np.int64) - 1
    first, last = scores[: edges[1] + 1], scores[edges[3] :]
    return Statistics(_mean(scores), float((scores > 0.5).mean()), _mean(first) - _mean(last))


def score_frame(
    prediction_ids: NDArray[np.integer], truth_ids: NDArray[np.integer], objects: Sequence[int]
) -> NDArray[np.float64]:
    """Compute J and F of each object in one frame. Pixels of other ids are background.

    Args:
        prediction_ids: predicted label map, H x W.
        truth_ids: true label map, H x W.
        objects: ids of O objects.

    Returns:
        J and F, O x 2.

    Raises:
        DataError: if the sizes of the label maps differ.

    Example:
        >>> import numpy as np
        >>> from voslab.metrics import score_frame
        >>> truth = np.array([[1, 1, 0], [0, 0, 2]])
        >>> score_frame(np.array([[1, 0, 0], [0, 0, 2]]), truth, [1, 2])
        array([[0.5, 1. ],
               [1. , 1. ]])
    """
    pairs = ((prediction_ids == i, truth_ids == i) for i in objects)
    scores = [(jaccard(prediction, truth), boundary_f(prediction, truth)) for prediction, truth in pairs]
    return np.array(scores, np.float64).reshape(-1, 2)


def davis_score(rows: NDArray[np.float64]) -> ScoreTable:
    """Compute the score of a data set.

    Args:
        rows: rows [sequence, object, frame, J, F] in any order, N x 5.

    Returns:
        Scores of all objects and their means.

    Raises:
        DataError: if a frame of an object was scored twice, or the rows have another shape.

    Example:
        >>> import numpy as np
        >>> from voslab.metrics import davis_score
        >>> table = davis_score(np.array([[0, 1, 1, 0.8, 0.6], [0, 1, 2, 0.6, 0.4], [1, 1, 1, 0.3, 0.1]]))
        >>> round(table.metrics()["J&F-Mean"], 2)
        0.4
        >>> {sequence: round(mean, 2) for sequence, mean in table.sequences().items()}
        {0: 0.6, 1: 0.2}
    """
    if rows.ndim != 2 or rows.shape[1] != COLUMNS:
        raise DataError(f"expected rows [sequence, object, frame, J, F], got an array of shape {rows.shape}")
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    keys = rows[:, :3]
    twice = np.flatnonzero((keys[1:] == keys[:-1]).all(axis=1))
    if twice.size:
        sequence, object_id, frame = keys[twice[0]].astype(np.int64)
        raise DataError(f"sequence {sequence}, frame {frame}, object {object_id}: scored twice")
    starts = np.flatnonzero((keys[1:, :2] != keys[:-1, :2]).any(axis=1)) + 1
    objects = tuple(_object_score(part) for part in np.split(rows, starts) if len(part))
    return ScoreTable(objects, _over_objects([o.region for o in objects]), _over_objects([o.boundary for o in objects]))


def _object_score(rows: NDArray[np.float64]) -> ObjectScore:
    return ObjectScore(int(rows[0, 0]), int(rows[0, 1]), len(rows), statistics(rows[:, 3]), statistics(rows[:, 4]))


def _over_objects(parts: Sequence[Statistics]) -> Statistics:
    if not parts:
        return Statistics(np.nan, np.nan, np.nan)
    mean, recall, decay = np.mean([(part.mean, part.recall, part.decay) for part in parts], axis=0).tolist()
    return Statistics(mean, recall, decay)


def _mean(scores: NDArray[np.float64]) -> float:
    """Return the mean of the scores that are not NaN; NaN if there are none."""
    numbers = scores[~np.isnan(scores)]
    return float(numbers.mean()) if numbers.size else float("nan")
