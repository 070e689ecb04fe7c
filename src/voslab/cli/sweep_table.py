"""Summarises a sweep: a table at its end and `sweep.csv` in its folder; exit code 1 if a job failed."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from voslab.cli.jobs import Job, plan_job, read_jobs, varying
from voslab.cli.sweep import read_points
from voslab.core import VOSError, write_csv

SCORES = ("J&F-Mean", "J-Mean", "F-Mean")
OPTIONAL = ("val/J&F-Mean", "frames_per_second", "first_frame_seconds", "peak_memory_mb")
"""Further columns, shown if a job has the metric."""


class Sweep(Callback):
    """Plans and summarises the jobs of a multirun, in the parent process."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Write `job.json` of all unfinished jobs of a grid; exit if the folder belongs to another sweep."""
        try:
            sweep = Path(config.hydra.sweep.dir)
            for job in grid(config, sweep):
                if job.state != "finished":
                    job.write(sweep)
        except VOSError as error:
            # Hydra turns any exception here into a warning.
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Update `sweep.csv`."""
        write_table(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print the table, and exit with code 1 if a job failed."""
        sweep = Path(config.hydra.sweep.dir)
        rows = write_table(sweep)
        table = Table(*rows[0], box=None, pad_edge=False) if rows else Table()
        for row in rows:
            table.add_row(*(_shown(value) for value in row.values()))
        # A terminal wraps long lines; rich would truncate them.
        Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False).print(table)
        print(f"sweep: {sweep / 'sweep.csv'}", flush=True)
        if failed := [job.number for job in read_jobs(sweep).values() if job.state != "finished"]:
            print(f"error: {len(failed)} of {len(rows)} jobs failed: {', '.join(map(str, failed))}", file=sys.stderr)
            sys.exit(1)


def write_table(sweep: Path) -> list[dict[str, Any]]:
    """Write `sweep.csv`, one row per job with the choices that vary, scores and state, and return the rows."""
    jobs = list(read_jobs(sweep).values())
    varied = [dict(part.lstrip("+").split("=", 1) for part in varying(jobs, job) if "=" in part) for job in jobs]
    keys = list(dict.fromkeys(key for one in varied for key in one))
    found = [_scores(sweep, job) for job in jobs]
    names = [*SCORES, *(name for name in OPTIONAL if any(name in scores for scores in found))]
    rows = [
        {
            "job": job.number,
            **{key: values.get(key) for key in keys},
            **{name: scores.get(name) for name in names},
            "seconds": job.seconds,
            "state": job.state,
        }
        for job, values, scores in zip(jobs, varied, found, strict=True)
    ]
    commands = [{**row, "command": shlex.join(job.command)} for job, row in zip(jobs, rows, strict=True)]
    write_csv(sweep / "sweep.csv", commands, None if commands else ["job"])
    return rows


def _scores(sweep: Path, job: Job) -> dict[str, Any]:
    metrics = sweep / str(job.number) / "metrics.json"
    return dict(json.loads(metrics.read_text())) if job.state == "finished" and metrics.is_file() else {}


def grid(config: DictConfig, sweep: Path) -> list[Job]:
    """Return the jobs of Hydra's basic sweeper; jobs of other sweepers are not known in advance.

    Args:
        config: configuration of the sweep, including `hydra`.
        sweep: folder of the sweep.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    if config.hydra.sweeper._target_.rpartition(".")[2] != BasicSweeper.__name__:
        return []
    arguments = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = parser.parse_overrides([*arguments, *config.hydra.overrides.task])
    [jobs] = BasicSweeper.split_arguments(overrides, None)
    return [plan_job(number, job, read_points(config), sweep) for number, job in enumerate(jobs)]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if value < 1 else f"{value:.1f}"
    return "-" if value is None else str(value)
