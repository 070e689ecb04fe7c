"""What a dashboard shows: run folders, and studies with their records, in one form."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voslab.core import ConfigError, DataError
from voslab.reporting.curves import Values, points, read_table
from voslab.reporting.records import sequence_means, sequence_scores, summarise
from voslab.reporting.study import Study, read_study

CURVES = Path("logs", "metrics.csv")
METRICS, SEQUENCES, SHEET, JOB = "metrics.json", "per_sequence.csv", "sheet.jpg", "job.json"


@dataclass(frozen=True, slots=True)
class Run:
    """A training or an evaluation.

    Attributes:
        name: as it is shown.
        group: the study or sweep that it belongs to, or the folder.
        history: steps and values of what was logged, by metric.
        summary: what was measured in the end, by metric (`test/J&F-Mean`).
        spread: standard deviation of the same, where runs of several seeds were averaged.
        sequences: J&F of every sequence, 0..1.
        pictures: files of galleries and sheets, by caption.
    """

    name: str
    group: str
    history: dict[str, tuple[Values, Values]] = field(default_factory=dict)
    summary: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    sequences: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)

    def named(self, pattern: str) -> list[str]:
        """Metrics of the history that a panel's metric stands for."""
        if pattern.endswith("*"):
            return [name for name in self.history if name.startswith(pattern[:-1])]
        return [pattern] if pattern in self.history else []


def read_runs(folder: Path) -> list[Run]:
    """All studies and runs in a folder, at any depth; a study is not searched any further.

    Raises:
        ConfigError: there is no such folder, or nothing in it.
        DataError: a file of theirs is damaged.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder of runs")
    found = list(_search(folder, folder.resolve()))
    if not found:
        raise ConfigError(f"{folder}: holds no run ({CURVES} or {METRICS}) and no study (study.yaml)")
    return found


def _search(folder: Path, root: Path) -> Iterator[Run]:
    if (folder / "study.yaml").is_file():
        yield from _study(read_study(folder))
        return
    if (folder / METRICS).is_file() or (folder / CURVES).is_file():
        yield _run(folder, root)
    for inside in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        yield from _search(inside, root)


def _study(study: Study) -> Iterator[Run]:
    """A run per curve, and one per row."""
    for figure in study.figures.values():
        for file in figure.files if figure.kind == "curves" else ():
            path = study.folder / file
            yield Run(path.stem, study.title, history=_history(path))
    pictures = {one.caption: study.folder / one.files[0] for one in study.figures.values() if one.kind == "file"}
    for name, row in study.rows.items():
        runs = study.runs(name)
        shared = set.intersection(*(set(run.content["metrics"]) for run in runs)) if runs else set()
        summaries = {f"test/{metric}": summarise(runs, metric) for metric in sorted(shared)}
        yield Run(
            row.label.replace("`", ""),
            study.title,
            summary={metric: one.mean for metric, one in summaries.items() if math.isfinite(one.mean)},
            spread={metric: one.deviation for metric, one in summaries.items() if math.isfinite(one.deviation)},
            sequences=sequence_scores(runs),
        )
    if pictures:
        yield Run(study.title, study.title, pictures=pictures)


def _run(folder: Path, root: Path) -> Run:
    """Named by its place in the folder that was searched, or what a sweep varied in it."""
    place = folder.resolve()
    name = place.relative_to(root).as_posix() if place != root else place.name
    group = place.parent.name
    pictures = {path.stem: path for path in sorted((folder / "gallery").glob("*.png"))}
    if (folder / SHEET).is_file():
        pictures["best, median and worst sequences"] = folder / SHEET
    return Run(
        _choices(folder) or name,
        group,
        history=_history(folder / CURVES) if (folder / CURVES).is_file() else {},
        summary=_summary(folder / METRICS) if (folder / METRICS).is_file() else {},
        sequences=_sequences(folder / SEQUENCES) if (folder / SEQUENCES).is_file() else {},
        pictures=pictures,
    )


def _choices(folder: Path) -> str:
    """What a sweep says of its job."""
    if not (folder / JOB).is_file():
        return ""
    content = _json(folder / JOB)
    choices = content.get("choices", [])
    return f"{folder.name}: {' '.join(map(str, choices))}" if isinstance(choices, list) else ""


def _history(path: Path) -> dict[str, tuple[Values, Values]]:
    try:
        rows = [row for row in read_table(path) if None not in row.values()]
        names = [name for name in (rows[0] if rows else ()) if name not in ("step", "epoch")]
        curves = {name: points(rows, name) for name in names}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not the curves of a run ({error})") from error
    return {name: curve for name, curve in curves.items() if len(curve[0])}


def _summary(path: Path) -> dict[str, float]:
    numbers = {key: value for key, value in _json(path).items() if isinstance(value, int | float)}
    return {f"test/{key}": float(value) for key, value in numbers.items()}


def _sequences(path: Path) -> dict[str, float]:
    """Means over objects."""
    try:
        means = sequence_means(read_table(path))
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: no scores of sequences ({error})") from error
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def _json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected names and values")
    return content


def grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by group."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.group, []).append(run)
    return found
