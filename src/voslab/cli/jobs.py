"""The jobs of a sweep as stored in its folder, and the name of the current run among them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from voslab.cli.stages import FOLDER as STAGES
from voslab.core import ConfigError, DataError, atomic_write
from voslab.core.overrides import describe_overrides
from voslab.core.parameters import nearest

State = Literal["waiting", "running", "finished", "failed", "stopped"]
_SWEEP_KEYS = re.compile(r"^[+~]*(sweep|point|output)(=|$)")


@dataclass(frozen=True, slots=True)
class Job:
    """State of a job, stored in `job.json`.

    Attributes:
        number: number of the job, from 0.
        choices: overrides in the sweep.
        command: overrides of the equivalent single run.
        state: waiting, running, finished (exit code 0), failed, or stopped by a signal.
        code: exit code; None before the job has ended.
        seconds: duration of the last attempt.
    """

    number: int
    choices: list[str]
    command: list[str]
    state: State = "waiting"
    code: int | None = None
    seconds: float | None = None

    def write(self, sweep: Path) -> None:
        """Write `<sweep>/<number>/job.json`."""
        atomic_write(sweep / str(self.number) / "job.json", json.dumps(asdict(self), indent=2) + "\n")


def read_jobs(sweep: Path) -> dict[int, Job]:
    """Read the jobs in a sweep's folder.

    Args:
        sweep: folder of the sweep.

    Returns:
        Jobs by number, sorted.

    Raises:
        DataError: if a `job.json` is invalid.
    """
    jobs = [_read(path) for path in sweep.glob("*/job.json")]
    return {job.number: job for job in sorted(jobs, key=lambda job: job.number)}


def plan_job(number: int, overrides: Sequence[str], points: Mapping[str, list[str]], sweep: Path) -> Job:
    """Return the job as stored if it is finished, else a new job.

    Args:
        number: number of the job.
        overrides: overrides of the job from Hydra's sweeper.
        points: overrides of the sweep's named points.
        sweep: folder of the sweep.

    Raises:
        ConfigError: if a point does not exist, or the folder has another job of that number.
    """
    chosen = [part.partition("=")[2].strip("'\"") for part in overrides if part.startswith("point=")]
    for name in chosen:
        if name not in points:
            raise ConfigError(f"point={name}: no such point{nearest(name, points)} (there are {', '.join(points)})")
    # Overrides of the command line come after those of the point, and take precedence.
    command = [part for name in chosen for part in points[name]]
    command += [part for part in overrides if not _SWEEP_KEYS.match(part)]
    choices = [part for part in overrides if not re.match(r"(sweep|output)=", part)]
    path = sweep / str(number) / "job.json"
    found = _read(path) if path.is_file() else None
    # A job that has not started has written nothing.
    if found is not None and found.state != "waiting" and found.command != command:
        was, now = shlex.join(found.command), shlex.join(command)
        raise ConfigError(f"{sweep}: belongs to another sweep: its job {number} is {was}, not {now}")
    return found if found is not None and found.state == "finished" else Job(number, choices, command)


def varying(jobs: Sequence[Job], job: Job) -> list[str]:
    """Return the choices that not all jobs share; all choices if there is one job only."""
    common = set.intersection(*(set(other.choices) for other in jobs)) if len(jobs) > 1 else set()
    return [part for part in job.choices if part not in common]


def register_names() -> None:
    """Register the resolvers of configurations.

    `point: ${names:${points}}` sweeps over all points of a sweep's file; `${run_name:NAME}` is the name of this run.
    """
    OmegaConf.register_new_resolver("names", lambda points: ",".join(points), replace=True)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def run_name(name: str) -> str:
    """Return the name of the current run: that of its recipe, and what differs from the recipe or between jobs.

    Args:
        name: name of the recipe, returned alone outside of a program.
    """
    if not HydraConfig.initialized():
        return name
    hydra = HydraConfig.get()
    folder = None if OmegaConf.is_missing(hydra.runtime, "output_dir") else Path(hydra.runtime.output_dir)
    if folder is not None and folder.parent.name == STAGES:
        folder = folder.parents[1]
    job = None if folder is None or not (folder / "job.json").is_file() else _read(folder / "job.json")
    if job is None or folder is None:
        changes = describe_overrides(hydra.overrides.task)
    else:
        changes = describe_overrides(varying(list(read_jobs(folder.parent).values()), job))
    return f"{name}_{changes}" if changes else name


def _read(path: Path) -> Job:
    try:
        return Job(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a job of a sweep ({error})") from error
