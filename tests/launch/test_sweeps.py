"""Sweeps: a process and a folder per job, what is finished is not done again, and a failure stops nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from src.launch.entry import CONFIGS
from src.launch.sweep import register_names
from src.launch.sweep_table import grid

FILES = sorted((CONFIGS / "sweep").glob("*.yaml"))


def program_of(path: Path) -> str:
    """The program that a sweep's file says it is for."""
    [found] = set(re.findall(rf"python -m src\.(\w+) -m sweep={path.stem}\b", path.read_text()))
    return str(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_job_of_every_sweep_composes_and_differs(path: Path, tmp_path: Path) -> None:
    register_names()
    program = program_of(path)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(program, [f"sweep={path.stem}"], return_hydra_config=True)
        choices, params = config.hydra.runtime.choices, config.hydra.sweeper.params
        for group in {"experiment", "model", "data"} & set(params):
            assert params[group] == choices[group], "a job is not what the sweep's own overrides are checked against"
        jobs = grid(config, tmp_path)
        assert len(jobs) > 1
        made = [compose(program, job.command) for job in jobs]
    assert len({str(one) for one in made}) == len(made), "two jobs are the same"
    for job in jobs:
        keys = [part.partition("=")[0] for part in job.command]
        assert len(set(keys)) == len(keys), f"job {job.number} says something twice: {job.command}"
