"""Reads studies: `study.yaml`, `notes.md` and the records that rows name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from voslab.core import ConfigError, DataError
from voslab.core.parameters import check_parameters
from voslab.reporting.run_record import RunRecord, read_records
from voslab.reporting.study import Claim, CostClaim, Figure, Row, Study, Table, record_path

T = TypeVar("T")


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
    compared = [(f"claims.{name}", (claim.better, claim.worse)) for name, claim in study.claims.items()]
    compared += [(f"costs.{name}", (cost.row, cost.than)) for name, cost in study.costs.items()]
    for where, named in compared:
        if missing := [row for row in named if row not in study.rows]:
            raise ConfigError(f"{path}: {where}: there is no row '{missing[0]}'")
    for name, table in study.tables.items():
        if missing := [row for row in table.rows if row not in study.rows]:
            raise ConfigError(f"{path}: tables.{name}: there is no row '{missing[0]}'")
    for table in study.all_tables():
        for name in table.rows:
            for column in table.columns:
                for run in study.runs(name):
                    if column not in run.metrics:
                        raise DataError(f"{path}: rows.{name}: {run.name} has no '{column}'")
