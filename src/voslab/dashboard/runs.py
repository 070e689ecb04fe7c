"""Reads run folders and studies into one form for the dashboard."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voslab.core import ConfigError, DataError
from voslab.core.overrides import describe_overrides
from voslab.core.parameters import fits
from voslab.core.strict_json import read_json
from voslab.reporting.curves import Values, points, read_table
from voslab.reporting.study import Study
from voslab.reporting.study_files import read_study
from voslab.reporting.summary import sequence_means, sequence_scores, summarise

CURVES = Path("logs", "metrics.csv")
METRICS, SEQUENCES, SHEET, JOB = "metrics.json", "per_sequence.csv", "sheet.jpg", "job.json"
MAX_NAME = 48
"""Maximum length of a shortened name."""


@dataclass(frozen=True, slots=True)
class Run:
    """A training or an evaluation.

    Attributes:
        name: name of the run on the page.
        group: title of its study, or name of the folder or sweep that contains it.
        history: steps and values by logged metric.
        summary: final values by metric, such as `test/J&F-Mean`.
        spread: standard deviations of the summary, if runs of several seeds were averaged.
        sequences: J&F of every sequence, 0..1.
        images: files of galleries and contact sheets by caption.
    """

    name: str
    group: str
    history: dict[str, tuple[Values, Values]] = field(default_factory=dict)
    summary: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    sequences: dict[str, float] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)

    def named(self, pattern: str) -> list[str]:
        """Return the metrics of the history that match a name, or a prefix followed by `*`."""
        if pattern.endswith("*"):
            return [name for name in self.history if name.startswith(pattern[:-1])]
        return [pattern] if pattern in self.history else []


def read_runs(folder: Path) -> list[Run]:
    """Read all studies and runs in a folder, at any depth; subfolders of a study are not searched.

    Raises:
        ConfigError: if the folder does not exist, or contains neither a run nor a study.
        DataError: if a file is damaged.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder of runs")
    found = list(_search(folder, folder.resolve()))
    if not found:
        raise ConfigError(f"{folder}: contains no run ({CURVES} or {METRICS}) and no study (study.yaml)")
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
    """Yield a run per file of curves, one per row, and one with the images."""
    for figure in study.figures.values():
        for file in figure.files if figure.kind == "curves" else ():
            path = study.folder / file
            yield Run(path.stem, study.title, history=_history(path))
    files = [one for one in study.figures.values() if one.kind == "file" and one.files]
    images = {one.caption: study.folder / one.files[0] for one in files}
    for name, row in study.rows.items():
        runs = study.runs(name)
        shared = set.intersection(*(set(run.metrics) for run in runs)) if runs else set()
        summaries = {f"test/{metric}": summarise(runs, metric) for metric in sorted(shared)}
        yield Run(
            row.label.replace("`", ""),
            study.title,
            summary={metric: one.mean for metric, one in summaries.items() if math.isfinite(one.mean)},
            spread={metric: one.deviation for metric, one in summaries.items() if math.isfinite(one.deviation)},
            sequences=sequence_scores(runs),
        )
    if images:
        yield Run(study.title, study.title, images=images)


def _run(folder: Path, root: Path) -> Run:
    """Read a run folder; its name is its path relative to the root, or the choices of its sweep job."""
    path = folder.resolve()
    name = path.relative_to(root).as_posix() if path != root else path.name
    images = {path.stem: path for path in sorted((folder / "gallery").glob("*.png"))}
    if (folder / SHEET).is_file():
        images["best, median and worst sequences"] = folder / SHEET
    return Run(
        _choices(folder) or name,
        path.parent.name,
        history=_history(folder / CURVES) if (folder / CURVES).is_file() else {},
        summary=_summary(folder / METRICS) if (folder / METRICS).is_file() else {},
        sequences=_sequences(folder / SEQUENCES) if (folder / SEQUENCES).is_file() else {},
        images=images,
    )


def _choices(folder: Path) -> str:
    """Return the number of a sweep job with the overrides that not all jobs of the sweep share; "" without a job."""
    if not (folder / JOB).is_file():
        return ""
    own = _overrides(folder / JOB)
    others = [_overrides(path) for path in folder.parent.glob(f"*/{JOB}") if path.parent.name != folder.name]
    varied = [choice for choice in own if not others or not all(choice in other for other in others)]
    return f"{folder.name}: {describe_overrides(varied)}" if varied else ""


def _overrides(path: Path) -> list[str]:
    choices = _json(path).get("choices", [])
    return list(map(str, choices)) if isinstance(choices, list) else []


def _history(path: Path) -> dict[str, tuple[Values, Values]]:
    try:
        rows = [row for row in read_table(path) if None not in row.values()]
        names = [name for name in (rows[0] if rows else ()) if name and name not in ("step", "epoch")]
        curves = {name: points(rows, name) for name in names}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not the curves of a run ({error})") from error
    return {name: curve for name, curve in curves.items() if len(curve[0])}


def _summary(path: Path) -> dict[str, float]:
    numbers = {key: value for key, value in _json(path).items() if isinstance(value, int | float)}
    for key, value in numbers.items():
        if not fits(value, float):
            raise DataError(f"{path}: '{key}' is no number that can be shown")
    return {f"test/{key}": float(value) for key, value in numbers.items()}


def _sequences(path: Path) -> dict[str, float]:
    """Read J&F of every sequence, averaged over its objects."""
    try:
        means = sequence_means(read_table(path))
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not the scores of sequences ({error})") from error
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def _json(path: Path) -> dict[str, object]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object")
    return content


def grouped(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs by group, in order of appearance."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.group, []).append(run)
    return groups


def shorten(name: str, limit: int = MAX_NAME) -> str:
    """Shorten a name to `limit` characters by replacing its middle with an ellipsis.

    Example:
        >>> shorten("python -m src.evaluate checkpoint=a.ckpt", 16)
        'python…t=a.ckpt'
    """
    tail = limit // 2
    return name if len(name) <= limit else f"{name[: limit - tail - 1].rstrip()}…{name[-tail:].lstrip()}"
