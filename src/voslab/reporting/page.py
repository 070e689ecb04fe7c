"""A study's page: the question, tables with the papers' numbers beside ours, figures, and how each row was made."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from voslab.core import ConfigError
from voslab.reporting.claims import claims_table
from voslab.reporting.records import Record, summarise
from voslab.reporting.study import Study, Table, place


@dataclass(frozen=True, slots=True)
class Column:
    """How a metric is shown: its heading, what it is multiplied with, and digits after the point."""

    heading: str
    scale: float = 1.0
    digits: int = 1


_SCORES = {f"{measure}-{part}": f"{measure} {part.lower()}" for measure in "JF" for part in ("Mean", "Recall", "Decay")}
COLUMNS = {
    "J&F-Mean": Column("J&F", 100),
    "G-Mean": Column("G", 100),
    **{name: Column(heading, 100) for name, heading in _SCORES.items()},
    "frames_per_second": Column("frames/s", 1, 1),
    "begin_seconds": Column("s to begin a video", 1, 2),
    "peak_memory_mb": Column("MiB", 1, 0),
    "parameters_m": Column("M parameters", 1, 1),
    "training_steps": Column("steps", 1, 0),
    "training_minutes": Column("minutes", 1, 0),
    "seconds": Column("seconds a frame", 1, 2),
    "memory_bytes": Column("MiB of the memory", 2**-20, 2),
    "peak_bytes": Column("peak MiB on the GPU", 2**-20, 0),
    "state_bytes": Column("MiB of the rest of the state", 2**-20, 0),
    "key_frames": Column("key frames, %", 100),
    "intra": Column("intra, %", 100),
    "error": Column("error, grey levels", 1, 1),
    "J-B-frames": Column("J of B-frames", 100),
    "J&F-B-small": Column("below 10k pixels", 100),
    "J&F-B-medium": Column("10k to 30k", 100),
    "J&F-B-large": Column("30k and more", 100),
    "J&F-B-all": Column("all of B-frames", 100),
    "J&F-all": Column("all frames", 100),
}
"""Metrics that have a heading of their own; others go by their name."""


def column(metric: str) -> Column:
    """How a metric is shown."""
    return COLUMNS.get(metric, Column(metric.replace("_", " "), 1, 2))


def shown(study: Study, row: str, metric: str) -> str:
    """A number of a row as it stands in the table: mean, and ± standard deviation of several runs."""
    kind, summary = column(metric), summarise(study.runs(row), metric)
    if math.isnan(summary.mean):
        return "-"
    text = f"{summary.mean * kind.scale:.{kind.digits}f}"
    return text if math.isnan(summary.deviation) else f"{text} ± {summary.deviation * kind.scale:.{kind.digits}f}"


def page(study: Study) -> str:
    """The whole README, markdown."""
    blocks = [
        "<!-- written by `python -m src.report` from study.yaml, notes.md and records/; edit those -->",
        f"# {study.title}",
        *([f"*{study.limits}*"] if study.limits else []),
        study.question,
        *(
            f"*{one.caption}*\n\n{table(study, one)}" if one.caption else table(study, one)
            for one in study.all_tables()
        ),
        *([claims_table(study)] if study.claims else []),
        *(f"![{one.caption}]({one.place(name)})\n\n*{one.caption}*" for name, one in study.figures.items()),
        *([notes(study)] if study.notes else []),
        "## How each row was made",
        *_provenance(study),
    ]
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def table(study: Study, one: Table) -> str:
    """Markdown: a line per row; where a paper has a number, it follows ours with the difference."""
    lines = [["row", *(column(metric).heading for metric in one.columns)]]
    lines.append(["---"] * len(lines[0]))
    for name in one.rows:
        lines.append([study.rows[name].label, *(_cell(study, name, metric) for metric in one.columns)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table_csv(study: Study) -> str:
    """The same numbers unrounded: row, metric, runs, mean, deviation, paper."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "metric", "runs", "mean", "deviation", "paper"])
    for name, metric in ((name, metric) for one in study.all_tables() for name in one.rows for metric in one.columns):
        row, found = study.rows[name], summarise(study.runs(name), metric)
        numbers = ["" if math.isnan(value) else repr(value) for value in (found.mean, found.deviation)]
        writer.writerow([name, metric, len(row.records), *numbers, row.paper.get(metric, "")])
    return text.getvalue()


def notes(study: Study) -> str:
    """`notes.md` with its numbers in place.

    Raises:
        ConfigError: it names a row or a metric that has no record.
    """
    try:
        return study.notes.format_map({name: _Numbers(study, name) for name in study.rows})
    except (KeyError, ValueError, IndexError) as error:
        raise ConfigError(f"{study.folder / 'notes.md'}: no record for {{{error}}}") from error


class _Numbers:
    """A row's numbers, for `{row[metric]}`."""

    def __init__(self, study: Study, row: str) -> None:
        self._study, self._row = study, row

    def __getitem__(self, metric: str) -> str:
        if any(metric not in run.content["metrics"] for run in self._study.runs(self._row)):
            raise KeyError(f"{self._row}[{metric}]")
        return shown(self._study, self._row, metric)


def _cell(study: Study, name: str, metric: str) -> str:
    ours, paper = shown(study, name, metric), study.rows[name].paper.get(metric)
    if paper is None or ours == "-":
        return ours
    difference = summarise(study.runs(name), metric).mean * column(metric).scale - paper
    return f"{ours} ({study.source} {paper:g}, {difference:+.{column(metric).digits}f})"


def _provenance(study: Study) -> list[str]:
    """Commands and circumstances, neighbours of the same circumstances together."""
    blocks = []
    for circumstances, group in groupby(study.rows, partial(_circumstances, study)):
        lines: list[str] = []
        records: list[str] = []
        for commands, names in groupby(group, partial(_commands, study)):
            for name in names:
                lines.append(f"# {study.rows[name].label}")
                records += map(_told, study.rows[name].records, study.runs(name))
            lines += commands
        blocks += ["\n".join(("```", *lines, "```")), f"{circumstances}; records {', '.join(dict.fromkeys(records))}"]
    return blocks


def _commands(study: Study, name: str) -> list[str]:
    return [*study.rows[name].before, *dict.fromkeys(run.command for run in study.runs(name))]


def _told(key: str, run: Record) -> str:
    """A record, and the hash of the masks that it scored, where it has one."""
    masks = run.content.get("masks")
    return f"[{run.name.split('@')[0]}]({place(key)})" + (f" (masks `{masks[:16]}`)" if masks else "")


def _circumstances(study: Study, name: str) -> str:
    runs = study.runs(name)
    facts = [
        f"commit {_all([_commit(run.content['commit']) for run in runs])}",
        f"seed {_all([str(run.seed) for run in runs if run.seed is not None]) or 'none'}",
        _all([_data(run.content["data"]) for run in runs]),
        _all([_hardware(run.content["hardware"]) for run in runs]),
    ]
    return "; ".join(facts)


def _commit(full: str) -> str:
    """Ten digits, and the `+` of a checkout that had changes."""
    return full[:10] + "+" * full.endswith("+")


def _all(values: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _data(seen: dict[str, object] | None) -> str:
    if seen is None:
        return "no data but generated pictures"
    return f"{seen['sequences']} sequences, {seen['frames']} frames, fingerprint {seen['fingerprint']}"


def _hardware(found: dict[str, object]) -> str:
    gpus = found.get("gpus") or []
    where = (
        ", ".join(str(gpu) for gpu in gpus) if isinstance(gpus, list) and gpus else f"{found['threads']} CPU threads"
    )
    return f"{found['cpu']}, {where}"
