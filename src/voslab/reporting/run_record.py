"""Reads and writes run records, one JSON file per run in `experiments/<study>/records/`."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from voslab.core import ConfigError, DataError, atomic_write
from voslab.core.parameters import check_parameters, fits
from voslab.core.strict_json import parse_json
from voslab.reporting import provenance

if TYPE_CHECKING:  # every program imports this module, few read data sets
    from omegaconf import DictConfig

    from voslab.data import VideoSequence

LOCAL_ARGUMENTS = ("output=", "paths.", "hydra.run.dir=")
"""Arguments with paths of one machine; a record leaves them out."""
RENAMED_METRICS = {"begin_seconds": "first_frame_seconds", "parameters_m": "params_millions"}
"""Metric keys of old records, and their present names."""
_REQUIRED = {"command", "commit", "metrics", "config", "hardware"}


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run, or one point of a benchmark.

    Attributes:
        name: file name without suffix; for a point of `src.benchmark` followed by `@480x854-1-20`: height, width,
            objects, frames in the memory.
        command: the command line as a list of words.
        commit: commit of the checkout, followed by `+` if code or configurations differ from it.
        hardware: `cpu`, `cores`, `threads` and `gpus`.
        metrics: measured values; None for a value that is NaN or infinite.
        config: the unresolved configuration, without paths of the machine.
        time: UTC time in ISO format.
        kind: the program, `NAME` of `src.NAME`, or the full name of another module.
        versions: of Python and torch.
        data: number of sequences and frames, and their fingerprint; None if the run used generated videos only.
        per_sequence: one row of scores per sequence and object; None if nothing was scored.
        masks: hash of the masks that the run wrote; None if it wrote none.
    """

    name: str
    command: list[str]
    commit: str
    hardware: dict[str, Any]
    metrics: dict[str, Any]
    config: dict[str, Any]
    time: str = ""
    kind: str = ""
    versions: dict[str, str] | None = None
    data: dict[str, Any] | None = None
    per_sequence: list[dict[str, Any]] | None = None
    masks: str | None = None

    @classmethod
    def from_json(cls, name: str, text: str) -> Self:
        """Parse a record. Old metric keys get their present names.

        Args:
            name: file name without suffix.
            text: content of the file.

        Raises:
            ValueError: if the text is not JSON.
            DataError: if it lacks a required key.
        """
        content = parse_json(text)
        missing = _REQUIRED - (content.keys() if isinstance(content, dict) else set())
        if missing:
            raise DataError(f"not a record: it lacks {', '.join(sorted(missing))}")
        try:
            check_parameters(cls, content, "")
        except ConfigError as error:
            raise DataError(f"not a record: {error}") from error
        metrics = {RENAMED_METRICS.get(key, key): value for key, value in content["metrics"].items()}
        optional = ("time", "kind", "versions", "data", "per_sequence", "masks")
        return cls(
            name,
            **{key: content[key] for key in sorted(_REQUIRED - {"metrics"})},
            metrics=metrics,
            **{key: content[key] for key in optional if key in content},
        )

    def to_json(self) -> str:
        """The content of the record's file."""
        content = {
            "time": self.time,
            "kind": self.kind,
            "command": self.command,
            "commit": self.commit,
            "hardware": self.hardware,
            "versions": self.versions,
            "data": self.data,
            "metrics": self.metrics,
            "per_sequence": self.per_sequence,
            **({} if self.masks is None else {"masks": self.masks}),
            "config": self.config,
        }
        return json.dumps(content, indent=2) + "\n"

    @property
    def command_line(self) -> str:
        """The command as one line of shell."""
        return shlex.join(self.command)

    @property
    def seed(self) -> int | None:
        """Seed of the run; None if its configuration has none."""
        seed: int | None = self.config.get("seed")
        return seed

    def metric(self, name: str) -> float:
        """Return a metric, NaN if its value is null.

        Raises:
            DataError: if the run has no metric of that name.
        """
        if name not in self.metrics:
            raise DataError(f"{self.name}: has no '{name}', only {', '.join(self.metrics)}")
        value = self.metrics[name]
        if value is not None and not fits(value, float):
            raise DataError(f"{self.name}: '{name}' is not a number")
        return math.nan if value is None else float(value)

    def setting(self, name: str) -> float:
        """Return a number of the run's configuration by its dotted name.

        Raises:
            DataError: if the configuration has no number of that name.
        """
        found: Any = self.config
        for key in name.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if not fits(found, float):
            raise DataError(f"{self.name}: neither a metric nor a number of its configuration is called '{name}'")
        return float(found)


def finite_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Replace NaN and infinite values by None, which JSON can represent.

    Example:
        >>> finite_metrics({"J-Mean": 0.5, "F-Mean": float("nan")})
        {'J-Mean': 0.5, 'F-Mean': None}
    """
    absent = {key for key, value in metrics.items() if isinstance(value, float) and not math.isfinite(value)}
    return {key: None if key in absent else value for key, value in metrics.items()}


def check_study(study: Any) -> None:
    """Check the name of a study.

    Raises:
        ConfigError: if it is not a plain folder name.
    """
    if study in ("", ".", "..") or Path(str(study)).name != str(study):
        raise ConfigError(f"record={study}: a study is a plain folder name")


def write_record(
    root: Path,
    study: str,
    kind: str,
    metrics: Mapping[str, Any],
    config: DictConfig,
    videos: Sequence[VideoSequence] = (),
    rows: Sequence[Mapping[str, Any]] | None = None,
    masks: str | None = None,
) -> Path:
    """Write a run to a new file in `root/<study>/records/`. Existing records are never changed.

    Args:
        root: folder of the studies.
        study: name of the study.
        kind: the program, `NAME` of `src.NAME`, or the full name of another module.
        metrics: measured values.
        config: the program's configuration.
        videos: sequences that were scored; none if only generated videos were used.
        rows: scores per sequence and object; None if nothing was scored.
        masks: hash of the masks that the run wrote.

    Returns:
        Path of the record.

    Raises:
        ConfigError: if the study is not a plain folder name.
    """
    check_study(study)
    now = datetime.now(UTC)
    program = kind if "." in kind else f"src.{kind}"
    record = RunRecord(
        name="",
        command=["python", "-m", program, *(part for part in sys.argv[1:] if not part.startswith(LOCAL_ARGUMENTS))],
        commit=provenance.commit(),
        hardware=provenance.hardware(),
        metrics=finite_metrics(metrics),
        config=_portable(config),
        time=now.isoformat(timespec="seconds"),
        kind=kind,
        versions=provenance.versions(),
        data=provenance.data_summary(videos) if videos else None,
        per_sequence=None if rows is None else [finite_metrics(row) for row in rows],
        masks=masks,
    )
    text = record.to_json()
    name = f"{now:%Y%m%dT%H%M%S}_{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
    path = root / str(study) / "records" / name
    atomic_write(path, text)
    return path


def read_records(folder: Path) -> dict[str, RunRecord]:
    """Read all records of a study.

    Args:
        folder: the study's folder.

    Returns:
        Records by name. A benchmark has one record per point.

    Raises:
        DataError: if a file is not a record.
    """
    paths = sorted((folder / "records").glob("*.json"))
    return {record.name: record for path in paths for record in _points(_read(path))}


def _points(record: RunRecord) -> Iterator[RunRecord]:
    """Yield one record per point of a benchmark, with the point's numbers as metrics; any other record unchanged."""
    points = record.metrics.get("points")
    if points is None:
        yield record
        return
    if not fits(points, list[dict[str, Any]]):
        raise DataError(f"{record.name}: its points are no list of measurements")
    for point in points:
        if missing := {"height", "width", "objects", "memory_frames"} - point.keys():
            raise DataError(f"{record.name}: a point lacks {', '.join(sorted(missing))}")
        numbers = {name: value for name, value in point.items() if not isinstance(value, str)}
        length = point.get("video_frames")
        last = point["memory_frames"] if length is None else f"after{length}"
        label = "{height}x{width}-{objects}-{last}".format(**point, last=last)
        yield replace(record, name=f"{record.name}@{label}", metrics=numbers)


def _read(path: Path) -> RunRecord:
    try:
        return RunRecord.from_json(path.stem, path.read_text())
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _portable(config: DictConfig) -> dict[str, Any]:
    """Return the configuration as composed, interpolations unresolved, without paths of this machine."""
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(config, resolve=False)
    return {key: value for key, value in content.items() if key not in ("output", "paths")}
