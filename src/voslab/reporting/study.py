"""A study: what `experiments/<name>/study.yaml` asks, and the records that answer it.

The yaml names rows, columns and figures, never a number of ours: those come from records, and so do the numbers in
`notes.md`, which names them as `{row[metric]}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from voslab.core import ConfigError, DataError
from voslab.core.parameters import check_parameters
from voslab.reporting.records import Record, read_records

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table.

    Attributes:
        label: what it is, in markdown.
        records: names of the runs, see `Record`; several differ in their seed alone and are averaged.
        before: further commands that its numbers need, such as the training; shown as they are.
        paper: what the paper, or `Study.source`, says, by metric, in the unit of the page.
    """

    label: str
    records: list[str]
    before: list[str] = field(default_factory=list)
    paper: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture.

    Attributes:
        kind: one of `voslab.reporting.figures.KINDS`, or `file` for a picture that lies in the folder.
        caption: below it.
        rows: names of the rows it shows; all where empty.
        files: what it is drawn from where that is no record: csv files of curves; the picture itself.
        axes: of `lines`, across and up: metrics, or numbers of the configuration by their dotted names.
        lines: names of rows that a line joins, by its label.
        marks: points in the units of the axes, by label.
    """

    kind: str
    caption: str
    rows: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    axes: list[str] = field(default_factory=list)
    lines: dict[str, list[str]] = field(default_factory=dict)
    marks: dict[str, list[float]] = field(default_factory=dict)

    def place(self, name: str) -> str:
        """Where the picture of that name lies in the study's folder."""
        return self.files[0] if self.kind == "file" and self.files else f"figures/{name}.png"


@dataclass(frozen=True, slots=True)
class Table:
    """A further table, of rows that are measured otherwise.

    Attributes:
        caption: above it.
        columns: its metrics.
        rows: names of those it shows, which the first table then leaves out.
    """

    caption: str
    columns: list[str]
    rows: list[str]


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement of a paper that two rows decide, by J&F.

    Attributes:
        text: the statement.
        better: name of the row that it says is better;
        worse: than this one,
        margin: by more than so many points; negative where it may lose a little.
        caveat: what the verdict does not cover.
    """

    text: str
    better: str
    worse: str
    margin: float = 0.0
    caveat: str = ""


@dataclass(frozen=True, slots=True)
class Study:
    """What a page is made of.

    Attributes:
        folder: where it lies.
        title: the page's heading.
        question: that it answers.
        limits: of data or budget, the page's first line; empty where there are none.
        source: what the numbers beside ours are from.
        columns: metrics of the first table.
        rows: by name, of all tables.
        tables: further ones, by name.
        claims: by name.
        figures: by name, the name of their file.
        records: of the folder, by name, and those of others that rows name as `study/record`.
        notes: text with `{row[metric]}` for numbers.
    """

    folder: Path
    title: str
    question: str
    limits: str
    source: str
    columns: list[str]
    rows: dict[str, Row]
    tables: dict[str, Table]
    claims: dict[str, Claim]
    figures: dict[str, Figure]
    records: dict[str, Record]
    notes: str

    def runs(self, name: str) -> list[Record]:
        """The records of a row."""
        return [self.records[record] for record in self.rows[name].records]

    def all_tables(self) -> list[Table]:
        """The first, without a caption, of the rows that no other shows; and the others."""
        elsewhere = {name for table in self.tables.values() for name in table.rows}
        return [Table("", self.columns, [name for name in self.rows if name not in elsewhere]), *self.tables.values()]


def place(record: str) -> str:
    """Where a record lies, seen from the study's folder, by the name that a row gives it."""
    *study, name = record.split("@")[0].split("/")
    return "/".join([*(("..", study[0]) if study else ()), "records", f"{name}.json"])


def study_folders(root: Path) -> list[Path]:
    """Folders below `root` that hold a study."""
    return sorted(path.parent for path in root.glob("*/study.yaml"))


def read_study(folder: Path) -> Study:
    """Read a study and its records.

    Raises:
        ConfigError: for a yaml that does not say what a study is, or names a record or row that does not exist.
    """
    path = folder / "study.yaml"
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not a study")
    rows, tables = _named(Row, content, "rows", path), _named(Table, content, "tables", path)
    claims, figures = _named(Claim, content, "claims", path), _named(Figure, content, "figures", path)
    notes = folder / "notes.md"
    study = _made(
        Study,
        {"limits": "", "source": "paper", **content},
        str(path),
        folder=folder,
        rows=rows,
        tables=tables,
        claims=claims,
        figures=figures,
        records=_records(folder, rows),
        notes=notes.read_text() if notes.is_file() else "",
    )
    _check(study)
    return study


def _records(folder: Path, rows: Mapping[str, Row]) -> dict[str, Record]:
    """The folder's own, and those of other studies that rows name."""
    others = {name.split("/")[0] for row in rows.values() for name in row.records if "/" in name}
    found = read_records(folder)
    for other in sorted(others):
        found |= {f"{other}/{name}": record for name, record in read_records(folder.parent / other).items()}
    return found


def _named(kind: type[T], content: dict[Any, Any], key: str, path: Path) -> dict[str, T]:
    """Take what stands under a key of the yaml: things of one kind by name."""
    values = content.pop(key, {})
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: {key}: expected names and what they stand for")
    return {name: _made(kind, value, f"{path}: {key}.{name}") for name, value in values.items()}


def _made(kind: type[T], values: Any, where: str, **parts: Any) -> T:
    """One of the classes above from what the yaml says, and parts that it does not."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected names and values")
    check_parameters(kind, values, f"{where}.")
    try:
        return kind(**values, **parts)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def _check(study: Study) -> None:
    path = study.folder / "study.yaml"
    for name, row in study.rows.items():
        for record in row.records:
            if record not in study.records:
                raise ConfigError(f"{path}: rows.{name}: there is no {place(record)}")
    for name, figure in study.figures.items():
        for shown in (*figure.rows, *(row for line in figure.lines.values() for row in line)):
            if shown not in study.rows:
                raise ConfigError(f"{path}: figures.{name}: there is no row '{shown}'")
    for name, claim in study.claims.items():
        for named in (claim.better, claim.worse):
            if named not in study.rows:
                raise ConfigError(f"{path}: claims.{name}: there is no row '{named}'")
    for name, table in study.tables.items():
        if lost := [row for row in table.rows if row not in study.rows]:
            raise ConfigError(f"{path}: tables.{name}: there is no row '{lost[0]}'")
    for table in study.all_tables():
        for name in table.rows:
            for column in table.columns:
                for run in study.runs(name):
                    if column not in run.content["metrics"]:
                        raise DataError(f"{path}: rows.{name}: {run.name} has no '{column}'")
