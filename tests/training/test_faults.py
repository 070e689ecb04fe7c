"""Tests of `src.train` when it is killed, stopped by a signal, or fails, with one and two processes."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.training.small import checkpoint, digest
from voslab.data.sources.synthetic.generated import generate

ROOT = Path(__file__).resolve().parents[2]
NETWORK = ("model=swiftnet", *(f"model.network.{key}" for key in ("backbone=resnet18", "width=8", "norm=group")))
SMALL = (*NETWORK, "engine.size=32", "data.clip.frames=2", "data.clip.augmentation.size=[32,48]", "data.batch_size=2")
SHORT = ("trainer.max_epochs=3", "trainer.limit_val_batches=1", "callbacks.last.every_n_train_steps=2", "test=null")
STEPS = 12

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    generate(folder / "DAVIS", train=8, val=1, frames=3, size=(33, 49), objects=(1, 2))
    return folder


def train(
    world: Path,
    run: Path,
    *arguments: str,
    fault: str = "none@-1",
    launcher: tuple[str, ...] = (),
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    data = ("data=davis2017", f"paths.data={world}", "trainer.enable_progress_bar=false")
    command = [*(launcher or (sys.executable,)), "-m", "tests.training.faulty", f"hydra.run.dir={run}"]
    environment = {**os.environ, "FAULT": fault, "OMP_NUM_THREADS": "1", **(variables or {})}
    done = subprocess.run(
        [*command, *SMALL, *SHORT, *data, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert left(run) == [], done.stderr[-3000:]
    return done


def left(run: Path, seconds: float = 15) -> list[str]:
    """Return processes that outlive a run, and temporary files in its folder."""
    end = time.monotonic() + seconds
    while True:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().decode(errors="replace")
                zombie = "State:\tZ" in (process / "status").read_text()
            except OSError:
                continue
            if f"hydra.run.dir={run}" in command and not zombie:
                found.append(f"{process.name}: {command}")
        if not found or time.monotonic() > end:
            return found + [str(path) for path in run.rglob(".*.ckpt")]
        time.sleep(0.1)


def succeeded(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def one(world: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = tmp_path_factory.mktemp("one")
    succeeded(train(world, run, "trainer=cpu", "data.num_workers=0"))
    assert checkpoint(run)["global_step"] == STEPS
    return digest(checkpoint(run))


@pytest.fixture(scope="module")
def two(world: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = tmp_path_factory.mktemp("two")
    succeeded(train(world, run, "trainer=ddp_cpu", "data.num_workers=2"))
    return digest(checkpoint(run))


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_stopped_run_saves_and_resumes_identically(world: Path, tmp_path: Path, one: str, name: str, code: int) -> None:
    run = tmp_path / "run"
    done = train(world, run, "trainer=cpu", "data.num_workers=2", fault=f"{name}@6")
    assert done.returncode == code, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    # The step in which the signal came was finished and is the last before validation; it is repeated otherwise.
    assert checkpoint(run)["global_step"] == 7
    lines = (run / "logs" / "metrics.csv").read_text().splitlines()
    succeeded(train(world, run, "trainer=cpu", "data.num_workers=0", "resume=auto"))
    assert digest(checkpoint(run)) == one
    header, *rows = (run / "logs" / "metrics.csv").read_text().splitlines()
    at = header.split(",").index("train/loss")
    assert sum(bool(row.split(",")[at]) for row in rows) == STEPS, lines


PHASES = {
    # Phase: signal, processes, workers, step of the checkpoint.
    "start": ("SIGTERM", 2, 0, None),
    "sanity": ("SIGINT", 1, 0, None),
    "save": ("SIGINT", 1, 2, 1),
    "validation": ("SIGTERM", 1, 2, 1),
    "blocked": ("SIGTERM", 2, 2, 1),
    "test": ("SIGTERM", 2, 0, 4),
}


@pytest.mark.parametrize("phase", PHASES)
def test_signal_in_any_phase_ends_the_run_within_20_seconds(world: Path, tmp_path: Path, phase: str) -> None:
    """Signals in a training step are in the tests below."""
    name, processes, workers, step = PHASES[phase]
    trainer = (f"trainer={'cpu' if processes == 1 else 'ddp_cpu'}", f"data.num_workers={workers}")
    every = ("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=2", "trainer.num_sanity_val_steps=1")
    length = ("trainer.max_epochs=1", f"test={'last' if phase == 'test' else 'null'}")
    done = train(world, tmp_path, *trainer, *every, *length, fault=f"{name}@{phase}")
    said = done.stdout + done.stderr
    [struck] = [float(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith("struck at")]
    assert time.time() - struck < 20, said[-3000:]
    assert done.returncode == {"SIGTERM": 143, "SIGINT": 130}[name], said[-3000:]
    assert "Traceback" not in said
    assert said.count(f"stopped by {name}") == 1 or f"killed 12 s after {name}" in said, said[-3000:]
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file() == (step is not None)
    if step is not None:
        assert checkpoint(tmp_path)["global_step"] == step


def test_preempted_job_is_requeued_and_resumes(world: Path, tmp_path: Path, one: str) -> None:
    run, bin_, asked = tmp_path / "run", tmp_path / "bin", tmp_path / "asked"
    bin_.mkdir()
    (bin_ / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> "{asked}"\n')
    (bin_ / "scontrol").chmod(0o755)
    job = {"JOB_ID": "77", "NTASKS": "1", "NTASKS_PER_NODE": "1", "NNODES": "1", "PROCID": "0", "LOCALID": "0"}
    job |= {"NODEID": "0", "JOB_NAME": "train", "NODELIST": "localhost"}
    slurm = {f"SLURM_{name}": value for name, value in job.items()} | {"PATH": f"{bin_}:{os.environ['PATH']}"}
    command = ("trainer=slurm", "trainer.accelerator=cpu", "trainer.strategy=auto", "data.num_workers=0")
    # As the run that is compared; `trainer=slurm` trains in bf16.
    command += ("trainer.precision=32-true", "float32_matmul_precision=null")
    done = train(world, run, *command, fault="SIGUSR1@6", variables=slurm)
    assert done.returncode == 128 + signal.SIGUSR1, done.stderr[-3000:]
    assert asked.read_text() == "requeue 77\n"
    assert checkpoint(run)["global_step"] == 7
    # The same command, as the queue starts it again.
    succeeded(train(world, run, *command, variables=slurm | {"SLURM_RESTART_COUNT": "1"}))
    assert digest(checkpoint(run)) == one


def test_two_killed_processes_resume_identically(world: Path, tmp_path: Path, two: str) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    done = train(world, run, "trainer=ddp_cpu", "data.num_workers=2", fault="SIGKILL@6@1")
    assert done.returncode != 0
    assert checkpoint(run)["global_step"] == 6
    succeeded(train(world, again, "trainer=ddp_cpu", "data.num_workers=0", f"resume={run}"))
    assert digest(checkpoint(again)) == two
    alone = subprocess.run(
        [sys.executable, "-m", "tests.training.faulty", f"resume={run}"],
        cwd=ROOT,
        env={**os.environ, "FAULT": "none@-1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    succeeded(alone)
    assert f"resume: configuration of {run}\n" in alone.stdout
    assert digest(checkpoint(run)) == two


def test_two_processes_stop_together(world: Path, tmp_path: Path) -> None:
    done = train(world, tmp_path, "trainer=ddp_cpu", "data.num_workers=1", fault="SIGTERM@5")
    assert done.returncode == 143, done.stderr[-3000:]
    assert "stopped by SIGTERM at step 6" in done.stdout + done.stderr
    assert checkpoint(tmp_path)["global_step"] == 6


def test_failing_process_ends_the_other_and_is_named(world: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    done = train(world, tmp_path, "trainer=ddp_cpu", "data.num_workers=0", fault="error@5@1")
    assert time.monotonic() - start < 60
    assert done.returncode != 0
    assert "error: process 1 of 2: nothing to see here" in done.stderr
    assert "Traceback" not in done.stderr


def test_nan_in_one_process_stops_both_with_code_3(world: Path, tmp_path: Path) -> None:
    done = train(world, tmp_path, "trainer=ddp_cpu", "data.num_workers=0", fault="nan@5@1")
    assert done.returncode == 3
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "loss" in line
    assert "at step 5, clips train_00" in line
    kept = checkpoint(tmp_path)
    assert kept["global_step"] == 4
    assert all(math.isfinite(value.sum()) for value in kept["state_dict"].values())


def test_torchrun_equals_processes_started_by_lightning(world: Path, tmp_path: Path, two: str) -> None:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    succeeded(train(world, tmp_path, "trainer=ddp_cpu", "data.num_workers=0", "test=last", launcher=launcher))
    assert digest(checkpoint(tmp_path)) == two
    assert (tmp_path / "per_sequence.csv").is_file()
