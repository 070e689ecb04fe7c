"""Summarises run records: means over seeds, and scores per sequence."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError
from voslab.reporting.run_record import RunRecord


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean and standard deviation of a metric over runs; the deviation is NaN for fewer than two runs."""

    mean: float
    deviation: float


def summarise(records: Sequence[RunRecord], metric: str) -> Summary:
    """Compute mean and sample standard deviation of a metric over runs that differ only in their seed.

    Raises:
        DataError: if a run has no such metric.
    """
    values = [record.metric(metric) for record in records]
    return Summary(sum(values) / len(values), statistics.stdev(values) if len(values) > 1 else math.nan)


def sequence_means(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Compute J&F of every sequence, the mean over its objects.

    Args:
        rows: rows of `per_sequence.csv` or of a record, one per object.

    Raises:
        KeyError: if a row has no sequence or no score.
        ValueError: if a score is not a number.

    Example:
        >>> sequence_means([{"sequence": "dog", "J&F-Mean": 0.25}, {"sequence": "dog", "J&F-Mean": 0.75}])
        {'dog': 0.5}
    """
    scores: dict[str, list[float]] = {}
    for row in rows:
        name, score = row["sequence"], row["J&F-Mean"]
        if not isinstance(name, str):
            raise ValueError("a row names no sequence")
        # Null stands for an object that no frame scores.
        if score is not None:
            scores.setdefault(name, []).append(float(score))
    return {name: sum(found) / len(found) for name, found in scores.items()}


def record_sequences(record: RunRecord) -> dict[str, float]:
    """Return J&F of every sequence of a run; empty if the record has no J&F per sequence."""
    rows = record.per_sequence or ()
    try:
        return {} if any("J&F-Mean" not in row for row in rows) else sequence_means(rows)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{record.name}: not the scores of sequences ({error})") from error


def sequence_table(records: Sequence[RunRecord]) -> tuple[list[str], NDArray[np.float64]]:
    """Collect J&F of the sequences that all runs have.

    Args:
        records: R runs.

    Returns:
        Names of the S common sequences, sorted, and their scores, R x S.
    """
    runs = [record_sequences(record) for record in records]
    names = sorted(set[str].intersection(*(set(run) for run in runs))) if runs else []
    return names, np.array([[run[name] for name in names] for run in runs])


def sequence_scores(records: Sequence[RunRecord]) -> dict[str, float]:
    """Compute J&F of every sequence that all runs have, the mean over runs."""
    names, scores = sequence_table(records)
    return dict(zip(names, scores.mean(0).tolist(), strict=True)) if names else {}
