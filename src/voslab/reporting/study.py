"""Reads studies: `study.yaml`, `notes.md` and the run records that they name.

The YAML names rows, columns and figures. Our own numbers come from records only, including those in `notes.md`, which
are written as `{row[metric]}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from voslab.core import ConfigError, DataError
from voslab.core.parameters import check_parameters
from voslab.reporting.run_record import RunRecord, read_records

T = TypeVar("T")


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
        metric: a time or a size.
        at_most: the claimed ratio of the first row to the second.
        caveat: limitation of the verdict.
    """

    text: str
    row: str
    than: str
    metric: str
    at_most: float
    caveat: str = ""


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


def study_folders(root: Path) -> list[Path]:
    """Return the folders in `root` that contain a study."""
    return sorted(path.parent for path in root.glob("*/study.yaml"))


def read_study(folder: Path) -> Study:
    """Read a study and its records.

    Raises:
        ConfigError: if the YAML is not a valid study, or names a record or row that does not exist.
        DataError: if a record cannot be read or lacks a metric.
    """
    path = folder / "study.yaml"
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, RecursionError, TypeError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a study")
    rows, tables = _named(Row, content, "rows", path), _named(Table, content, "tables", path)
    claims, costs = _named(Claim, content, "claims", path), _named(CostClaim, content, "costs", path)
    figures = _named(Figure, content, "figures", path)
    try:
        notes = (folder / "notes.md").read_text() if (folder / "notes.md").is_file() else ""
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / 'notes.md'}: cannot be read ({error})") from error
    study = _build(
        Study,
        {"found": "", "limits": "", "source": "paper", **content},
        str(path),
        folder=folder,
        rows=rows,
        tables=tables,
        claims=claims,
        costs=costs,
        figures=figures,
        records=_records(folder, rows),
        notes=notes,
    )
    _check(study)
    return study


def _records(folder: Path, rows: Mapping[str, Row]) -> dict[str, RunRecord]:
    """Read the study's own records, and those of other studies that rows name."""
    others = {name.split("/")[0] for row in rows.values() for name in row.sources if "/" in name}
    found = read_records(folder)
    for other in sorted(others):
        found |= {f"{other}/{name}": record for name, record in read_records(folder.parent / other).items()}
    return found


def _named(kind: type[T], content: dict[Any, Any], key: str, path: Path) -> dict[str, T]:
    """Remove a key from the YAML content, and return its entries by name."""
    values = content.pop(key, {})
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: {key}: expected a mapping of names to entries")
    return {name: _build(kind, value, f"{path}: {key}.{name}") for name, value in values.items()}


def _build(kind: type[T], values: Any, where: str, **parts: Any) -> T:
    """Build one of the dataclasses above from YAML values and further fields."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a mapping")
    check_parameters(kind, values, f"{where}.")
    try:
        return kind(**values, **parts)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def _check(study: Study) -> None:
    path = study.folder / "study.yaml"
    for name, row in study.rows.items():
        for record in row.sources:
            if record not in study.records:
                raise ConfigError(f"{path}: rows.{name}: there is no {record_path(record)}")
        if row.speed is not None and "frames_per_second" not in study.records[row.speed].metrics:
            raise DataError(f"{path}: rows.{name}: {row.speed} has no 'frames_per_second'")
    for name, figure in study.figures.items():
        for shown in (*figure.rows, *(row for line in figure.lines.values() for row in line)):
            if shown not in study.rows:
                raise ConfigError(f"{path}: figures.{name}: there is no row '{shown}'")
    compared = {f"claims.{name}": (claim.better, claim.worse) for name, claim in study.claims.items()}
    compared |= {f"costs.{name}": (cost.row, cost.than) for name, cost in study.costs.items()}
    for name, pair in compared.items():
        for row in pair:
            if row not in study.rows:
                raise ConfigError(f"{path}: {name}: there is no row '{row}'")
    for name, table in study.tables.items():
        if missing := [row for row in table.rows if row not in study.rows]:
            raise ConfigError(f"{path}: tables.{name}: there is no row '{missing[0]}'")
    for table in study.all_tables():
        for name in table.rows:
            for column in table.columns:
                for run in study.runs(name):
                    if column not in run.metrics:
                        raise DataError(f"{path}: rows.{name}: {run.name} has no '{column}'")
