"""Runs the jobs of a sweep, each in its own process and folder.

Hydra runs jobs inside its own process. There, the ranks of a distributed job repeat the command line with `-m`, and
would start a sweep of their own. Here, the task of a multirun only starts the same program with the job's overrides,
waits, and reads the objective from the job's `metrics.json`. This works with any sweeper and launcher.

The state of a job is stored in `<sweep folder>/<number>/job.json`. Repeating the command with the same folder skips
finished jobs.
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
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import voslab
from voslab.cli.jobs import Job, State, plan_job, read_jobs, varying
from voslab.cli.stages import FOLDER as STAGES
from voslab.cli.stages import stage_commands
from voslab.core.signals import SIGNALS

LOG = "job.log"
PARENT = (
    "hydra.output_subdir=null",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
    "+hydra.callbacks.sweep._target_=voslab.cli.sweep_table.Sweep",
)
"""Overrides of the parent process, which must write neither configuration nor log to the folders of jobs."""
_PASSED: dict[int, signal.Signals] = {
    signal.SIGINT: signal.SIGINT,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGTERM,
}
"""Signals by the signal that is passed on to the job: when the terminal closes, jobs save a checkpoint and end."""
_PARENT_KEYS = re.compile(r"^[+~]*hydra[./](mode|sweep|launcher|run|callbacks|output_subdir|job_logging|hydra_logging)")


def run_job(program: Sequence[str], config: DictConfig) -> float | None:
    """Run the current job of Hydra's sweep, unless it is finished.

    Args:
        program: arguments of `python -m`: the module, and Hydra's flags that select other configurations.
        config: configuration of the job.

    Returns:
        Value of `objective` in the job's `metrics.json`; None if the job failed or has no such value.
    """
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir)
    job = plan_job(hydra.job.num, hydra.overrides.task, read_points(config), sweep)
    folder = sweep / str(job.number)
    if job.state == "finished":
        print(f"{_title(sweep, job)}: already finished", flush=True)
        return _objective(folder, config)
    replace(job, state="running").write(sweep)
    print(f"{_title(sweep, job)}{_remaining_time(sweep)}", flush=True)
    started = time.monotonic()
    code, received, log = _run_stages(program, job, config, folder)
    state: State = "finished" if code == 0 else "failed" if received is None else "stopped"
    job = replace(job, state=state, code=code, seconds=round(time.monotonic() - started, 1))
    job.write(sweep)
    objective = _objective(folder, config) if state == "finished" else None
    if state == "failed":
        print(f"    failed with exit code {code}: {_last_line(log)} ({log})", flush=True)
    elif objective is not None:
        print(f"    {config.objective} {objective:.4f}, {job.seconds:.0f} s", flush=True)
    if received is not None:
        print(f"stopped by {signal.Signals(received).name}; continue with the same command and hydra.sweep.dir={sweep}")
        raise SystemExit(128 + received)
    return objective


def _run_stages(program: Sequence[str], job: Job, config: DictConfig, folder: Path) -> tuple[int, int | None, Path]:
    """Run the stages of a job that are not finished. The last stage, or the only run, has the job's own folder.

    Returns:
        Exit code, the signal that was passed on to the process, if any, and the log of the last run.
    """
    commands = stage_commands(job.command, config.get("stages"), folder)
    for number, command in enumerate(commands[:-1]):
        stage, place = plan_job(number, command, {}, folder / STAGES), folder / STAGES / str(number)
        title = f"    stage {number + 1}/{len(commands)} {command[0].partition('=')[2]}"
        if stage.state == "finished":
            print(f"{title}: already finished", flush=True)
            continue
        replace(stage, state="running").write(folder / STAGES)
        print(title, flush=True)
        started = time.monotonic()
        code, received = _run([sys.executable, "-m", *program, *command, *_job_overrides(config, place)], place / LOG)
        state: State = "finished" if code == 0 else "failed" if received is None else "stopped"
        replace(stage, state=state, code=code, seconds=round(time.monotonic() - started, 1)).write(folder / STAGES)
        if code != 0 or received is not None:
            return code or 128 + (received or 0), received, place / LOG
    if len(commands) > 1:
        print(f"    stage {len(commands)}/{len(commands)} {commands[-1][0].partition('=')[2]}", flush=True)
    command = [sys.executable, "-m", *program, *commands[-1], *_job_overrides(config, folder)]
    return *_run(command, folder / LOG), folder / LOG


def read_points(config: DictConfig) -> dict[str, list[str]]:
    """Return the overrides of a sweep's named points; empty if the sweep has none."""
    return {name: list(overrides) for name, overrides in (config.get("points") or {}).items()}


def _job_overrides(config: DictConfig, folder: Path) -> list[str]:
    """Return overrides that select the job's folder, and resume it if it has a checkpoint."""
    inherited = [part for part in HydraConfig.get().overrides.hydra if not _PARENT_KEYS.match(part)]
    resume = ["resume=auto"] if "resume" in config and (folder / "checkpoints" / "last.ckpt").is_file() else []
    return [*inherited, *resume, f"{'output' if 'output' in config else 'hydra.run.dir'}={folder}"]


def _run(command: list[str], log: Path) -> tuple[int, int | None]:
    """Run a process with its output appended to a log.

    The process leads a session of its own. So Ctrl-C reaches it once, from this process, and all of its children are
    killed if it fails.

    Returns:
        Exit code, and the signal that was passed on to the process, if any.
    """
    received: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        received.append(number)
        for child in children:
            child.send_signal(_PASSED[number])

    # A launcher may run jobs in threads, which cannot install signal handlers.
    numbers = tuple(_PASSED) if threading.current_thread() is threading.main_thread() else ()
    before: dict[int, Any] = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        with log.open("ab") as file:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_environment(),
            )
        children.append(child)
        for number in received[:1]:
            child.send_signal(_PASSED[number])
        with SIGNALS.deferring():
            code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code != 0:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    return code, received[0] if received else None


def _environment() -> dict[str, str]:
    """Return the environment of a job, in which `python -m voslab.…` works in a bare checkout too."""
    package = str(Path(voslab.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))}


def _objective(folder: Path, config: DictConfig) -> float | None:
    path = folder / "metrics.json"
    value = json.loads(path.read_text()).get(config.get("objective")) if path.is_file() else None
    return None if value is None else float(value)


def _title(sweep: Path, job: Job) -> str:
    """Format the number of the job, the number of jobs as far as known, and the choices that vary."""
    jobs = read_jobs(sweep)
    count = max(len(jobs), int(HydraConfig.get().sweeper.get("n_trials", 0)), job.number + 1)
    return f"[{job.number + 1}/{count}] {shlex.join(varying(list(jobs.values()), job))}"


def _remaining_time(sweep: Path) -> str:
    """Estimate the time of the remaining jobs, run one after the other."""
    jobs = read_jobs(sweep).values()
    durations = [job.seconds for job in jobs if job.state == "finished" and job.seconds is not None]
    left = sum(job.state not in ("finished", "failed") for job in jobs)
    return f" ({sum(durations) / len(durations) * left / 60:.0f} min to go)" if durations and left else ""


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"
