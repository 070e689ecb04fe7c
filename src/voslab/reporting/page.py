"""Renders the page of a study: question, tables with the papers' numbers, figures, and the commands of each row."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from voslab.core import ConfigError
from voslab.reporting.claims import Outcome, judge, judge_cost
from voslab.reporting.run_record import RunRecord
from voslab.reporting.study import Study, Table, record_path
from voslab.reporting.summary import summarise


@dataclass(frozen=True, slots=True)
class Column:
    """Format of a metric.

    Attributes:
        heading: heading of the column.
        scale: factor applied to the value.
        digits: digits after the decimal point.
    """

    heading: str
    scale: float = 1.0
    digits: int = 1


_SCORES = {f"{measure}-{part}": f"{measure} {part.lower()}" for measure in "JF" for part in ("Mean", "Recall", "Decay")}
COLUMNS = {
    "J&F-Mean": Column("J&F", 100),
    "G-Mean": Column("G", 100),
    **{name: Column(heading, 100) for name, heading in _SCORES.items()},
    "frames_per_second": Column("frames/s", 1, 1),
    "first_frame_seconds": Column("s for the first frame", 1, 2),
    "peak_memory_mb": Column("MiB", 1, 0),
    "params_millions": Column("M parameters", 1, 1),
    "training_steps": Column("steps", 1, 0),
    "training_minutes": Column("minutes", 1, 0),
    "seconds": Column("seconds a frame", 1, 2),
    "memory_bytes": Column("MiB of the memory", 2**-20, 2),
    "peak_bytes": Column("peak MiB on the GPU", 2**-20, 0),
    "state_bytes": Column("MiB of the rest of the state", 2**-20, 0),
    "total_bytes": Column("MiB of the state", 2**-20, 1),
    "video_frames": Column("frames of the video", 1, 0),
    "key_frames": Column("key frames, %", 100),
    "identity_switches": Column("identity switches", 1, 0),
    "intra": Column("intra, %", 100),
    "error": Column("error, grey levels", 1, 1),
    "J-B-frames": Column("J of B-frames", 100),
    "J&F-B-small": Column("below 10k pixels", 100),
    "J&F-B-medium": Column("10k to 30k", 100),
    "J&F-B-large": Column("30k and more", 100),
    "J&F-B-all": Column("all of B-frames", 100),
    "J&F-all": Column("all frames", 100),
}
"""Formats by metric; other metrics are headed by their name."""


def column(metric: str) -> Column:
    """Return the format of a metric."""
    return COLUMNS.get(metric, Column(metric.replace("_", " "), 1, 2))


def format_value(study: Study, row: str, metric: str) -> str:
    """Format a metric of a row: the mean, and ± standard deviation if there are several runs that differ."""
    kind, summary = column(metric), summarise(study.runs(row), metric)
    if math.isnan(summary.mean):
        return "-"
    text = f"{summary.mean * kind.scale:.{kind.digits}f}"
    return text if not summary.deviation > 0 else f"{text} ± {summary.deviation * kind.scale:.{kind.digits}f}"


def page(study: Study) -> str:
    """Render the README in Markdown."""
    blocks = [
        "<!-- written by `python -m src.report` from study.yaml, notes.md and records/; edit those -->",
        f"# {study.title}",
        *([found(study)] if study.found else []),
        f"**Question.** {study.question}",
        *([f"*{study.limits}*"] if study.limits else []),
        *(
            f"*{one.caption}*\n\n{table(study, one)}" if one.caption else table(study, one)
            for one in study.all_tables()
        ),
        *([claims_table(study)] if study.claims else []),
        *([costs_table(study)] if study.costs else []),
        *(f"![{one.caption}]({one.image_path(name)})\n\n*{one.caption}*" for name, one in study.figures.items()),
        *([notes(study)] if study.notes else []),
        "## How each row was made",
        *_provenance(study),
    ]
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def table(study: Study, one: Table) -> str:
    """Render a table in Markdown, with the paper's number and the difference in brackets."""
    head = ["row", *(column(metric).heading for metric in one.columns)]
    rows = [[study.rows[name].label, *(_cell(study, name, metric) for metric in one.columns)] for name in one.rows]
    return _markdown(head, rows)


def claims_table(study: Study) -> str:
    """Return a Markdown table with one line per claim on accuracy."""
    rows = []
    for claim in study.claims.values():
        found = judge(study, claim)
        scores = (100 * summarise(study.runs(row), "J&F-Mean").mean for row in (claim.better, claim.worse))
        # Adding 0 turns a rounded -0.0 into 0.0.
        difference = f"{round(found.difference, 1) + 0.0:+.1f} ± {found.standard_error:.1f}"
        gains = f"{found.gains} of {found.sequences}"
        verdict = _verdict(found.outcome, claim.caveat)
        rows.append([claim.text, *(f"{score:.1f}" for score in scores), difference, gains, verdict])
    return _markdown(["claim", "with", "without", "difference", "sequences that gain", "verdict"], rows)


def costs_table(study: Study) -> str:
    """Return a Markdown table with one line per claim on time or memory."""
    rows = []
    for claim in study.costs.values():
        ratio, outcome = judge_cost(study, claim)
        values = (format_value(study, row, claim.metric) for row in (claim.row, claim.than))
        claimed = f"{'≤' if claim.at_least is None else '≥'} {claim.claimed:.2f}"
        verdict = _verdict(outcome, claim.caveat)
        rows.append([claim.text, column(claim.metric).heading, *values, f"{ratio:.2f}", claimed, verdict])
    return _markdown(["claim", "measured", "this", "that", "ratio", "claimed", "verdict"], rows)


def table_csv(study: Study) -> str:
    """Render all numbers unrounded as CSV with columns row, metric, runs, mean, deviation, paper."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "metric", "runs", "mean", "deviation", "paper"])
    for name, metric in ((name, metric) for one in study.all_tables() for name in one.rows for metric in one.columns):
        row, found = study.rows[name], summarise(study.runs(name), metric)
        numbers = ["" if math.isnan(value) else repr(value) for value in (found.mean, found.deviation)]
        writer.writerow([name, metric, len(row.records), *numbers, row.paper.get(metric, "")])
    return text.getvalue()


def notes(study: Study) -> str:
    """Return `notes.md` with numbers filled in.

    Raises:
        ConfigError: if it names a row or a metric without a record.
    """
    return _filled(study, study.notes, "notes.md")


def found(study: Study) -> str:
    """Return what was found, with numbers filled in.

    Raises:
        ConfigError: if it names a row or a metric without a record.
    """
    return _filled(study, study.found, "study.yaml")


def _filled(study: Study, text: str, file: str) -> str:
    try:
        return text.format_map({name: _Numbers(study, name) for name in study.rows})
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{study.folder / file}: no record for {{{error}}}") from error


class _Numbers:
    """Formats the numbers of a row for `{row[metric]}`."""

    def __init__(self, study: Study, row: str) -> None:
        self._study, self._row = study, row

    def __getitem__(self, metric: str) -> str:
        if any(metric not in run.metrics for run in self._study.runs(self._row)):
            raise KeyError(f"{self._row}[{metric}]")
        return format_value(self._study, self._row, metric)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def _verdict(outcome: Outcome, caveat: str) -> str:
    return f"**{outcome}**" + (f"; {caveat}" if caveat else "")


def _cell(study: Study, name: str, metric: str) -> str:
    ours, paper = format_value(study, name, metric), study.rows[name].paper.get(metric)
    if paper is None or ours == "-":
        return ours
    difference = summarise(study.runs(name), metric).mean * column(metric).scale - paper
    return f"{ours} ({study.source} {paper:g}, {difference:+.{column(metric).digits}f})"


def _provenance(study: Study) -> list[str]:
    """Return commands and circumstances of all rows; consecutive rows of equal circumstances share a block."""
    blocks = []
    for circumstances, group in groupby(study.rows, partial(_circumstances, study)):
        lines: list[str] = []
        records: list[str] = []
        for commands, names in groupby(group, partial(_commands, study)):
            for name in names:
                lines.append(f"# {study.rows[name].label}")
                records += (_record_link(source, study.records[source]) for source in study.rows[name].sources)
            lines += commands
        blocks += ["\n".join(("```", *lines, "```")), f"{circumstances}; records {', '.join(dict.fromkeys(records))}"]
    return blocks


def _commands(study: Study, name: str) -> list[str]:
    row = study.rows[name]
    return [*row.before, *dict.fromkeys(study.records[source].command_line for source in row.sources)]


def _record_link(key: str, run: RunRecord) -> str:
    """Return a link to a record, and the hash of its masks if it has one."""
    masks = run.masks
    return f"[{run.name.split('@')[0]}]({record_path(key)})" + (f" (masks `{masks[:16]}`)" if masks else "")


def _circumstances(study: Study, name: str) -> str:
    runs = study.runs(name)
    facts = [
        f"commit {_all([_commit(run.commit) for run in runs])}",
        f"seed {_all([str(run.seed) for run in runs if run.seed is not None]) or 'none'}",
        _all([_data(run.data) for run in runs]),
        _all([_hardware(run.hardware) for run in runs]),
    ]
    return "; ".join(facts)


def _commit(full: str) -> str:
    """Shorten a commit hash to ten digits, keeping the `+` of a modified checkout."""
    return full[:10] + "+" * full.endswith("+")


def _all(values: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _data(seen: dict[str, object] | None) -> str:
    if seen is None:
        return "generated videos only"
    sequences, frames, fingerprint = (seen.get(key, "unknown") for key in ("sequences", "frames", "fingerprint"))
    return f"{sequences} sequences, {frames} frames, fingerprint {fingerprint}"


def _hardware(found: dict[str, object]) -> str:
    gpus = found.get("gpus") or []
    where = (
        ", ".join(str(gpu) for gpu in gpus)
        if isinstance(gpus, list) and gpus
        else f"{found.get('threads', 'unknown')} CPU threads"
    )
    return f"{found.get('cpu', 'unknown')}, {where}"
