"""Sweeps: every job that Hydra launches is a fresh process of the same program, in a folder of its own.

Hydra would run the jobs inside of its own process, where the processes that a distributed job starts repeat the command
line, `-m` included, and begin a sweep of their own. So the task of a multirun trains nothing: it starts
`python -m src.… <the job's overrides>`, waits, and reads the objective from the job's `metrics.json`. Whatever sweeper
and launcher are chosen, the ranks of a job join that job.

`<sweep folder>/<number>/job.json` says how far a job is. Repeating the command over the same folder skips what is done.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from voslab.core import ConfigError, DataError, atomic_write
from voslab.core.parameters import nearest

State = Literal["waiting", "running", "finished", "failed", "stopped"]
LOG = "job.log"
PARENT = (
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "+hydra.callbacks.sweep._target_=voslab.cli.sweep_table.Sweep",
)
"""Overrides of the process that only starts others: it leaves no configuration and no log in their folders."""
_PASSED: dict[int, signal.Signals] = {
    signal.SIGINT: signal.SIGINT,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,
}
"""Signals, and what a job gets of them: where a terminal closes, jobs save what they have and end."""
_OURS = re.compile(r"^[+~]*(sweep|point|output)(=|$)")
_PARENTS = re.compile(r"^[+~]*hydra[./](mode|sweep|launcher|run|callbacks|output_subdir|job_logging|hydra_logging)")


@dataclass(frozen=True, slots=True)
class Job:
    """How far a job is; `job.json`.

    Attributes:
        number: from 0.
        choices: its overrides as the sweep has them.
        command: its overrides as they are typed for a single run.
        state: waiting, running, finished (exit code 0), failed, or stopped by a signal.
        code: exit code; None as long as there is none.
        seconds: that it took, without those of earlier attempts.
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
    """The jobs of a sweep's folder, by number. Raises `DataError` for a file that is no job."""
    jobs = [_read(path) for path in sweep.glob("*/job.json")]
    return {job.number: job for job in sorted(jobs, key=lambda job: job.number)}


def planned(number: int, overrides: Sequence[str], points: dict[str, str], sweep: Path) -> Job:
    """A finished job as it is in the sweep's folder, or one that is still to be done.

    Args:
        number: of the job.
        overrides: of the job, as Hydra has them.
        points: of the sweep, by name: overrides as they are typed.
        sweep: its folder.

    Raises:
        ConfigError: for a point that does not exist; if the folder has another job of that number.
    """
    chosen = [part.partition("=")[2].strip("'\"") for part in overrides if part.startswith("point=")]
    for name in chosen:
        if name not in points:
            raise ConfigError(f"point={name}: no such point{nearest(name, points)} (there are {', '.join(points)})")
    # What is typed comes behind the point, and wins.
    command = [part for name in chosen for part in shlex.split(points[name])]
    command += [part for part in overrides if not _OURS.match(part)]
    choices = [part for part in overrides if not re.match(r"(sweep|output)=", part)]
    path = sweep / str(number) / "job.json"
    found = _read(path) if path.is_file() else None
    # One that never began left nothing behind.
    if found is not None and found.state != "waiting" and found.command != command:
        was, now = shlex.join(found.command), shlex.join(command)
        raise ConfigError(f"{sweep}: holds another sweep, its job {number} is {was} and not {now}")
    return found if found is not None and found.state == "finished" else Job(number, choices, command)


def run_job(program: Sequence[str], config: DictConfig) -> float | None:
    """Run the job that Hydra is at, unless it is finished.

    Args:
        program: what comes behind `python -m`: the module, and Hydra's flags that name other configurations.
        config: of the job.

    Returns:
        `objective` of its `metrics.json`; None if the job failed or there is no such number.
    """
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir)
    job = planned(hydra.job.num, hydra.overrides.task, points_of(config), sweep)
    folder = sweep / str(job.number)
    if job.state == "finished":
        print(f"{_title(sweep, job)}: finished before", flush=True)
        return _objective(folder, config)
    replace(job, state="running").write(sweep)
    print(f"{_title(sweep, job)}{_to_go(sweep)}", flush=True)
    begun = time.monotonic()
    code, received = _run([sys.executable, "-m", *program, *job.command, *_places(config, folder)], folder / LOG)
    state: State = "finished" if code == 0 else "failed" if received is None else "stopped"
    job = replace(job, state=state, code=code, seconds=round(time.monotonic() - begun, 1))
    job.write(sweep)
    objective = _objective(folder, config) if state == "finished" else None
    if state == "failed":
        print(f"    failed with exit code {code}: {_last_line(folder / LOG)} ({folder / LOG})", flush=True)
    elif objective is not None:
        print(f"    {config.objective} {objective:.4f}, {job.seconds:.0f} s", flush=True)
    if received is not None:
        print(f"stopped by {signal.Signals(received).name}; the same command with hydra.sweep.dir={sweep} goes on")
        raise SystemExit(128 + received)
    return objective


def points_of(config: DictConfig) -> dict[str, str]:
    """The named points of a sweep that is a list."""
    return dict(config.get("points") or {})


def varying(jobs: Sequence[Job], job: Job) -> list[str]:
    """What tells a job from the others; all of its choices where there are no others."""
    common = set.intersection(*(set(other.choices) for other in jobs)) if len(jobs) > 1 else set()
    return [part for part in job.choices if part not in common]


def register_names() -> None:
    """Let a sweep's file say `point: ${names:${points}}`."""
    OmegaConf.register_new_resolver("names", lambda points: ",".join(points), replace=True)


def _read(path: Path) -> Job:
    try:
        return Job(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a job of a sweep ({error})") from error


def _places(config: DictConfig, folder: Path) -> list[str]:
    """Overrides that make it this job in this folder."""
    inherited = [part for part in HydraConfig.get().overrides.hydra if not _PARENTS.match(part)]
    goes_on = ["resume=auto"] if "resume" in config and (folder / "checkpoints" / "last.ckpt").is_file() else []
    return [*inherited, *goes_on, f"{'output' if 'output' in config else 'hydra.run.dir'}={folder}"]


def _run(command: list[str], log: Path) -> tuple[int, int | None]:
    """Run a process into a log; its exit code, and the signal that was passed on to it.

    It leads a session, so that Ctrl-C reaches it once, through us, and nothing that it started outlives its failure.
    """
    received: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        received.append(number)
        for child in children:
            child.send_signal(_PASSED[number])

    # A launcher may run jobs in threads, which no signal reaches.
    numbers = tuple(_PASSED) if threading.current_thread() is threading.main_thread() else ()
    before: dict[int, Any] = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        with log.open("ab") as file:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        children.append(child)
        for number in received[:1]:
            child.send_signal(_PASSED[number])
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code != 0:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    return code, received[0] if received else None


def _objective(folder: Path, config: DictConfig) -> float | None:
    path = folder / "metrics.json"
    value = json.loads(path.read_text()).get(config.get("objective")) if path.is_file() else None
    return None if value is None else float(value)


def _title(sweep: Path, job: Job) -> str:
    """Which job of how many, as far as that is known, and what is its own."""
    jobs = read_jobs(sweep)
    count = max(len(jobs), int(HydraConfig.get().sweeper.get("n_trials", 0)), job.number + 1)
    return f"[{job.number + 1}/{count}] {shlex.join(varying(list(jobs.values()), job))}"


def _to_go(sweep: Path) -> str:
    """The time that all jobs that are left will take, one after the other."""
    jobs = read_jobs(sweep).values()
    took = [job.seconds for job in jobs if job.state == "finished" and job.seconds is not None]
    left = sum(job.state not in ("finished", "failed") for job in jobs)
    return f" ({sum(took) / len(took) * left / 60:.0f} min to go)" if took and left else ""


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
