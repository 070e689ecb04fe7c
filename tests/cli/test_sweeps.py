"""Tests of sweeps: one process and folder per job, finished jobs are skipped, and a failure stops no other job."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from omegaconf import DictConfig, OmegaConf

from voslab.cli import sweep as sweeps
from voslab.cli.arguments import CONFIGS
from voslab.cli.entry import entry
from voslab.cli.jobs import register_names
from voslab.cli.models import load_model
from voslab.cli.sweep_table import grid

FILES = sorted(path for path in (CONFIGS / "sweep").glob("*.yaml") if not path.stem.startswith("search_"))
SEARCHES = sorted((CONFIGS / "sweep").glob("search_*.yaml"))
COPY = ("model=copy_first", "data=generated", "trainer=cpu")
Children = list[list[str]]


@entry("evaluate")
def parent(config: DictConfig) -> None:
    """The swept program; its task must not run in the process of the sweep."""
    raise AssertionError(f"a job ran in the process of the sweep: {config}")


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    """Command lines of jobs, which are replaced: each scores its `seed`, and `seed=3` fails."""
    started: Children = []

    def run(command: list[str], log: Path) -> tuple[int, int | None]:
        started.append(command)
        seed = next((int(part[5:]) for part in command if part.startswith("seed=")), 0)
        log.write_text(f"loading\nerror: seed {seed} is no good\n")
        if seed == 3:
            return 2, None
        (log.parent / "metrics.json").write_text(json.dumps({"J&F-Mean": seed / 10, "J-Mean": 0.5, "F-Mean": 0.25}))
        return 0, None

    monkeypatch.setattr(sweeps, "_run", run)
    return started


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run a sweep in `tmp_path / "a sweep"` and return its exit code."""

    def start(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["evaluate", "-m", *arguments, f"hydra.sweep.dir={tmp_path}/a sweep"])
        try:
            parent()
        except SystemExit as end:
            return int(str(end.code))
        return 0

    return start


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "a sweep" / "sweep.csv").read_text().splitlines()))


def program_of(path: Path) -> str:
    """Return the program that the comment of a sweep's file names."""
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
            assert params[group] == choices[group], "the sweep is composed with another choice than its jobs"
        alone = set(OmegaConf.load(path)) - {"defaults", "points", "point", "stages", "hydra"}
        assert not alone, f"jobs get the sweeper's params only, not {alone}"
        jobs = grid(config, tmp_path)
        assert len(jobs) > 1
        made = [compose(program, job.command) for job in jobs]
    assert len({str(one) for one in made}) == len(made), "two jobs are the same"
    for job in jobs:
        keys = [part.partition("=")[0] for part in job.command]
        assert len(set(keys)) == len(keys), f"job {job.number} sets a key twice: {job.command}"


@pytest.mark.parametrize("path", [path for path in FILES if program_of(path) == "evaluate"], ids=lambda path: path.stem)
def test_every_job_of_an_evaluation_has_weights_that_fit(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register_names()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        jobs = grid(compose("evaluate", [f"sweep={path.stem}"], return_hydra_config=True), tmp_path)
        for job in jobs:
            config = compose("evaluate", [*job.command, f"paths.cache={tmp_path}"])
            load_model(config).warn_if_random()
    assert not caplog.messages, "a job has random weights"


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_bounds_of_search_spaces_compose_and_objective_is_validation(path: Path) -> None:
    program = program_of(path)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        params = compose(program, [f"sweep={path.stem}"], return_hydra_config=True).hydra.sweeper.params
        for key, space in params.items():
            [override] = OverridesParser.create().parse_overrides([f"{key}={space}"])
            value = override.value()
            ends = (
                value.list
                if isinstance(value, ChoiceSweep)
                else [value.start, value.end]
                if override.is_sweep_override()
                else [value]
            )
            for end in ends:
                made = compose(program, [f"experiment={params.experiment}", f"{key}={'null' if end is None else end}"])
                assert key == "experiment" or OmegaConf.select(made, key) == end
        fixed = [f"{key}={space}" for key, space in params.items() if not re.search(r"interval|choice", str(space))]
        made = compose(program, fixed)
        assert made.objective.startswith("val/")
        assert made.test is None


def test_each_job_of_a_grid_has_a_process_and_a_folder(
    sweep: Callable[..., int], children: Children, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(*COPY, "seed=1,2", "engine.size=range(60,80,10)", "record=trial") == 0
    assert len(children) == 4
    for number, command in enumerate(children):
        assert command[:3] == [sys.executable, "-m", __name__]
        assert f"output={tmp_path}/a sweep/{number}" in command
        assert not [part for part in command if part.startswith("hydra") or part in ("-m", "--multirun")][1:]
    assert children[1][3:] == [*COPY, "seed=1", "engine.size=70", "record=trial", f"output={tmp_path}/a sweep/1"]
    rows = table(tmp_path)
    assert [(row["job"], row["seed"], row["engine.size"]) for row in rows] == [
        *(("0", "1", "60"), ("1", "1", "70"), ("2", "2", "60"), ("3", "2", "70")),
    ]
    assert [row["J&F-Mean"] for row in rows] == ["0.1", "0.1", "0.2", "0.2"]
    assert {row["state"] for row in rows} == {"finished"}
    assert rows[0]["command"] == "model=copy_first data=generated trainer=cpu seed=1 engine.size=60 record=trial"
    assert "record" not in rows[0], "choices that all jobs share are left out"
    assert "[4/4] seed=2 engine.size=70" in capsys.readouterr().out


def test_failing_job_is_reported_and_others_run(
    sweep: Callable[..., int], children: Children, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(*COPY, "seed=1,3,2") == 1
    assert [row["state"] for row in table(tmp_path)] == ["finished", "failed", "finished"]
    assert [row["J&F-Mean"] for row in table(tmp_path)] == ["0.1", "", "0.2"]
    captured = capsys.readouterr()
    assert "failed with exit code 2: error: seed 3 is no good" in captured.out
    assert captured.err.strip().splitlines()[-1] == "error: 1 of 3 jobs failed: 1"
    assert len(children) == 3


def test_repeated_command_skips_finished_jobs(
    sweep: Callable[..., int], children: Children, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(*COPY, "seed=1,3,2")
    files = [tmp_path / "a sweep" / "0" / name for name in ("job.json", "metrics.json", "job.log")]
    before = [path.stat().st_mtime_ns for path in files]
    children.clear()
    assert sweep(*COPY, "seed=1,3,2") == 1
    assert [part for command in children for part in command if part.startswith("seed")] == ["seed=3"]
    assert [path.stat().st_mtime_ns for path in files] == before
    assert "[1/3] seed=1: already finished" in capsys.readouterr().out
    assert len(table(tmp_path)) == 3


def test_folder_of_another_sweep_is_rejected(
    sweep: Callable[..., int], children: Children, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(*COPY, "seed=1,2")
    assert sweep(*COPY, "seed=1,4") == 2
    assert "a sweep: belongs to another sweep: its job 1 is" in capsys.readouterr().err
    assert len(children) == 2
    waiting = tmp_path / "a sweep" / "1" / "job.json"
    waiting.write_text(waiting.read_text().replace("finished", "waiting"))
    assert sweep(*COPY, "seed=1,4") == 0
    assert [row["seed"] for row in table(tmp_path)] == ["1", "4"]
    (tmp_path / "a sweep" / "0" / "job.json").write_text("{}")
    assert sweep(*COPY, "seed=1,2") == 2
    assert "not a job of a sweep" in capsys.readouterr().err


def test_points_name_jobs_and_command_line_overrides_take_precedence(
    sweep: Callable[..., int], children: Children, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("sweep=adaptation_ablation", "point=base,mean", "seed=0,1", "model.network.lr=3") == 0
    assert [(row["point"], row["seed"]) for row in table(tmp_path)] == [
        *(("base", "0"), ("base", "1"), ("mean", "0"), ("mean", "1")),
    ]
    command = children[2]
    assert "experiment=adaptation_davis" in command
    assert command.index("model.network.lr=405") < command.index("model.network.lr=3")
    assert not [part for part in command if part.startswith(("sweep=", "point="))]
    assert sweep("sweep=adaptation_ablation", "point=bsae") == 2
    assert "point=bsae: no such point; did you mean 'base'?" in capsys.readouterr().err


def test_invalid_override_ends_the_sweep_before_its_first_job(
    sweep: Callable[..., int], children: Children, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(*COPY, "seed=1,2", "engine.sise=60,70") == 2
    assert "engine.sise: there is no 'sise' here; did you mean 'size'?" in capsys.readouterr().err
    assert not children


def test_a_sweep_needs_m(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "sweep=adaptation_ablation", f"output={tmp_path}"])
    with pytest.raises(SystemExit, match="2"):
        parent()
    assert f"sweep=NAME goes with -m: python -m {__name__} -m sweep=NAME" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_sweep_refuses_to_run_under_a_launcher(
    variable: str,
    sweep: Callable[..., int],
    children: Children,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, "2")
    assert sweep(*COPY, "seed=1,2") == 2
    assert "not below torchrun or srun" in capsys.readouterr().err
    assert not children


def test_config_flags_are_passed_to_jobs(sweep: Callable[..., int], children: Children, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "other.yaml").write_text("defaults: [evaluate, _self_]\nseed: 7\n")
    assert sweep("--config-dir", f"{tmp_path}/mine", "--config-name", "other", *COPY, "engine.size=60,70") == 0
    assert children[0][3:7] == ["--config-name", "other", "--config-dir", f"{tmp_path}/mine"]


@pytest.mark.filterwarnings("ignore")
def test_optuna_reads_the_objective_and_survives_a_failure(
    sweep: Callable[..., int], children: Children, tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="hydra-optuna-sweeper is not installed")
    search = ("hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=6")
    seeds = ("hydra.sweeper.sampler.seed=1", "hydra.sweeper.n_jobs=1", "seed=choice(3,4)")
    assert sweep(*COPY, *search, *seeds) == 1
    assert len(children) == 6
    found = (tmp_path / "a sweep" / "optimization_results.yaml").read_text()
    assert "best_value: 0.4" in found
    assert {(row["seed"], row["state"]) for row in table(tmp_path)} == {("3", "failed"), ("4", "finished")}
    children.clear()
    sweep(*COPY, *search, *seeds)
    assert all("seed=3" in command for command in children), "the draws are the same, and finished ones are skipped"
