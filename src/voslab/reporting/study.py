"""What a study holds: rows, tables, claims, figures and notes.

The YAML names rows, columns and figures. Our own numbers come from records only, including those in `notes.md`, which
are written as `{row[metric]}`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from voslab.reporting.run_record import RunRecord


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        label: label in Markdown.
        records: names of the runs, see `RunRecord`; several runs differ only in their seed and are averaged.
        before: commands to run first, such as the training; shown unchanged.
        paper: numbers of the paper, or of `Study.source`, by metric, in the unit of the page.
        speed: name of a point of `src.benchmark` whose frames per second replace those of the runs, which may have run
            beside other programs.
    """

    label: str
    records: list[str]
    before: list[str] = field(default_factory=list)
    paper: dict[str, float] = field(default_factory=dict)
    speed: str | None = None

    @property
    def sources(self) -> list[str]:
        """Names of all records that the row's numbers come from."""
        return self.records if self.speed is None else [*self.records, self.speed]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure.

    Attributes:
        kind: one of `voslab.reporting.figures.KINDS`, or `file` for an existing image in the study's folder.
        caption: text below the figure.
        rows: names of the rows shown; empty for all rows.
        files: for `curves`, CSV files; for `file`, the image.
        axes: for `lines`, the x and the y axis: metrics, or dotted names of numbers of the configuration.
        lines: for `lines`, the names of the rows that a line joins, by label.
        marks: for `lines`, extra points in the units of the axes, by label.
    """

    kind: str
    caption: str
    rows: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    axes: list[str] = field(default_factory=list)
    lines: dict[str, list[str]] = field(default_factory=dict)
    marks: dict[str, list[float]] = field(default_factory=dict)

    def image_path(self, name: str) -> str:
        """Return the path of the figure's image, relative to the study's folder."""
        return self.files[0] if self.kind == "file" and self.files else f"figures/{name}.png"


@dataclass(frozen=True, slots=True)
class Table:
    """An additional table.

    Attributes:
        caption: text above the table.
        columns: metrics.
        rows: names of the rows shown, which the first table leaves out.
    """

    caption: str
    columns: list[str]
    rows: list[str]


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a paper, tested by J&F of two rows.

    Attributes:
        text: the claim.
        better: name of the row that is better according to the claim.
        worse: name of the row it is compared with.
        margin: the difference must exceed this many points; a negative margin permits a small loss.
        caveat: limitation of the verdict.
    """

    text: str
    better: str
    worse: str
    margin: float = 0.0
    caveat: str = ""


@dataclass(frozen=True, slots=True)
class CostClaim:
    """A claim of a paper on time or memory, tested by the ratio of two rows that were measured on the same hardware.

    Attributes:
        text: the claim.
        row: name of the row that the claim is about.
        than: name of the row it is compared with.
        metric: a time, a speed or a size.
        at_most: the claimed ratio of the first row to the second, where less is better.
        at_least: likewise, where more is better; a claim has one of the two.
        caveat: limitation of the verdict.
    """

    text: str
    row: str
    than: str
    metric: str
    at_most: float | None = None
    at_least: float | None = None
    caveat: str = ""

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None) or self.claimed <= 0:
            raise TypeError("give one of at_most and at_least, above 0")

    @property
    def claimed(self) -> float:
        """The claimed ratio."""
        ratio = self.at_most if self.at_least is None else self.at_least
        assert ratio is not None
        return ratio


@dataclass(frozen=True, slots=True)
class Study:
    """The content of a page.

    Attributes:
        folder: the study's folder.
        title: heading of the page.
        question: the question that the study answers.
        found: what was found, in a sentence or two, with `{row[metric]}` for numbers; may be empty.
        limits: limits of data or budget; may be empty.
        source: source of the reference numbers.
        columns: metrics of the first table.
        rows: rows of all tables, by name.
        tables: additional tables, by name.
        claims: tested claims on accuracy, by name.
        costs: tested claims on time and memory, by name.
        figures: figures, by name of their file.
        records: records of this study, by name, and of other studies that rows name as `study/record`.
        notes: Markdown with `{row[metric]}` for numbers.
    """

    folder: Path
    title: str
    question: str
    found: str
    limits: str
    source: str
    columns: list[str]
    rows: dict[str, Row]
    tables: dict[str, Table]
    claims: dict[str, Claim]
    costs: dict[str, CostClaim]
    figures: dict[str, Figure]
    records: dict[str, RunRecord]
    notes: str

    def runs(self, name: str) -> list[RunRecord]:
        """Return the records of a row, with the speed of its benchmark."""
        row = self.rows[name]
        runs = [self.records[record] for record in row.records]
        if row.speed is None:
            return runs
        speed = self.records[row.speed].metrics["frames_per_second"]
        return [replace(run, metrics={**run.metrics, "frames_per_second": speed}) for run in runs]

    def all_tables(self) -> list[Table]:
        """Return all tables. The first has no caption and holds the rows that no other table shows."""
        elsewhere = {name for table in self.tables.values() for name in table.rows}
        return [Table("", self.columns, [name for name in self.rows if name not in elsewhere]), *self.tables.values()]


def record_path(record: str) -> str:
    """Return the path of a record relative to the study's folder.

    Args:
        record: name of the record as a row gives it.

    Example:
        >>> record_path("a"), record_path("other/b@480x854-1-20")
        ('records/a.json', '../other/records/b.json')
    """
    *study, name = record.split("@")[0].split("/")
    return "/".join([*(("..", study[0]) if study else ()), "records", f"{name}.json"])
