"""Records of runs, as `voslab.reporting.run_record.write_record` leaves them."""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError


@dataclass(frozen=True, slots=True)
class Record:
    """One run.

    Attributes:
        name: of its file, without suffix; of a point of `src.benchmark` with it, as `@480x854-1-20`: height, width,
            objects, frames in the memory.
        content: of its file: time, kind, command, commit, hardware, versions, data, metrics, config; where the run
            scored sequences also `per_sequence`.
    """

    name: str
    content: dict[str, Any]

    @property
    def command(self) -> str:
        """As it is typed."""
        return shlex.join(self.content["command"])

    @property
    def seed(self) -> int | None:
        """Of the run; None where nothing was random."""
        seed: int | None = self.content["config"].get("seed")
        return seed

    def metric(self, name: str) -> float:
        """A number, or NaN where there is none.

        Raises:
            DataError: the run measured nothing of that name.
        """
        metrics = self.content["metrics"]
        if name not in metrics:
            raise DataError(f"{self.name}: has no '{name}', only {', '.join(metrics)}")
        return math.nan if metrics[name] is None else float(metrics[name])

    def setting(self, name: str) -> float:
        """A number of the run's configuration, by its dotted name.

        Raises:
            DataError: there is none of that name.
        """
        found: Any = self.content["config"]
        for key in name.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, int | float):
            raise DataError(f"{self.name}: neither a metric nor a number of its configuration is called '{name}'")
        return float(found)

    def sequences(self) -> dict[str, float]:
        """J&F of every sequence, mean over its objects; empty where the record does not hold them."""
        rows = self.content.get("per_sequence") or ()
        return {} if any("J&F-Mean" not in row for row in rows) else sequence_means(rows)


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean of a number over runs, and their standard deviation; NaN for fewer than two runs."""

    mean: float
    deviation: float


def sequence_means(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """J&F of every sequence, mean over its objects.

    Args:
        rows: as `per_sequence.csv` and records hold them, one per object.

    Raises:
        KeyError: a row has no sequence or no score.
        ValueError: a score is no number.
    """
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row["sequence"], []).append(float(row["J&F-Mean"]))
    return {name: sum(found) / len(found) for name, found in scores.items()}


def sequence_table(records: Sequence[Record]) -> tuple[list[str], NDArray[np.float64]]:
    """The S sequences that all R runs have, none where one does not hold them, and their J&F, R S."""
    runs = [record.sequences() for record in records]
    names = sorted(set[str].intersection(*(set(run) for run in runs))) if runs else []
    return names, np.array([[run[name] for name in names] for run in runs])


def sequence_scores(records: Sequence[Record]) -> dict[str, float]:
    """J&F of every sequence that all runs have, mean over them."""
    names, scores = sequence_table(records)
    return dict(zip(names, scores.mean(0).tolist(), strict=True)) if names else {}


def summarise(records: Sequence[Record], metric: str) -> Summary:
    """Mean and sample standard deviation of a metric over runs that differ in nothing but their seed."""
    values = [record.metric(metric) for record in records]
    return Summary(sum(values) / len(values), statistics.stdev(values) if len(values) > 1 else math.nan)


def read_records(folder: Path) -> dict[str, Record]:
    """All records of a study's folder, by name.

    Raises:
        DataError: for a file that is no record.
    """
    paths = sorted((folder / "records").glob("*.json"))
    return {record.name: record for path in paths for record in _points(_read(path))}


def _points(record: Record) -> Iterator[Record]:
    """A record per point of a benchmark, whose numbers are then its metrics; any other record as it is."""
    points = record.content["metrics"].get("points")
    if points is None:
        yield record
        return
    for point in points:
        numbers = {name: value for name, value in point.items() if not isinstance(value, str)}
        place = "{height}x{width}-{objects}-{memory_frames}".format(**point)
        yield Record(f"{record.name}@{place}", {**record.content, "metrics": numbers})


def _read(path: Path) -> Record:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    missing = {"command", "commit", "metrics", "config", "hardware"} - (
        content.keys() if isinstance(content, dict) else set()
    )
    if missing:
        raise DataError(f"{path}: not a record: it lacks {', '.join(sorted(missing))}")
    return Record(path.stem, content)
