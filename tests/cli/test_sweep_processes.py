"""Tests of sweeps with real processes: signals, ranks, and continuing a stopped sweep."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from tests.test_cli import CLIPS, ROOT, SMALL, program
from voslab.cli import sweep as sweeps
from voslab.cli.jobs import read_jobs
from voslab.data.sources.synthetic.generated import generate


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_alive(process: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    stat = Path(f"/proc/{process}/stat")
    return stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_children_of_a_failed_job_are_killed(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    sleeper = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True); raise SystemExit(3)"
    assert sweeps._run(python(sleeper), log) == (3, None)
    deadline = time.monotonic() + 10
    while is_alive(int(log.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(int(log.read_text()))
    sweeps._run(python("print('again')"), log)
    assert log.read_text().splitlines()[1] == "again", "the log of an earlier attempt is kept"


def test_jobs_find_the_package_in_a_bare_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/other")
    log = tmp_path / "job.log"
    assert sweeps._run(python("import os; print(os.environ['PYTHONPATH'])"), log) == (0, None)
    assert log.read_text().strip().split(os.pathsep) == [str(ROOT / "src"), "/other"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_reaches_the_job_once(number: signal.Signals, tmp_path: Path) -> None:
    log, before = tmp_path / "job.log", signal.getsignal(number)
    code = f"""
import signal, sys, time
heard = []
signal.signal({number}, lambda *_: heard.append(1))
print("ready", flush=True)
while not heard:
    time.sleep(0.01)
time.sleep(0.3)
sys.exit(40 + len(heard))
"""

    def strike() -> None:
        while not (log.is_file() and log.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=strike)
    thread.start()
    assert sweeps._run(python(code), log) == (41, number)
    thread.join()
    assert signal.getsignal(number) is before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a job learns of it on Linux only")
def test_killed_sweep_ends_its_job(tmp_path: Path) -> None:
    """By a SIGTERM, after which a training saves a checkpoint."""
    log = tmp_path / "job.log"
    job = """
import os, signal, sys, time
from voslab.core.signals import end_with_parent
signal.signal(signal.SIGTERM, lambda *_: sys.exit("saved"))
end_with_parent()
print(os.getpid(), flush=True)
time.sleep(60)
"""
    sweep = f"""
from pathlib import Path
from voslab.cli import sweep
from voslab.core.signals import end_with_parent
end_with_parent()
sweep._run({python(job)!r}, Path({str(log)!r}))
"""
    with subprocess.Popen(python(sweep)) as running:
        while not (log.is_file() and log.read_text().endswith("\n")):
            assert running.poll() is None
            time.sleep(0.05)
        running.kill()
    deadline = time.monotonic() + 10
    while is_alive(int(log.read_text().split()[0])) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert log.read_text().splitlines()[1:] == ["saved"]


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a very short training."""
    data = tmp_path_factory.mktemp("data")
    generate(data / "DAVIS", train=4, val=2, frames=5, size=(65, 97), objects=(1, 1))
    return [
        *SMALL,
        *CLIPS,
        "data=davis2017",
        f"paths.data={data}",
        "engine.size=60",
        "trainer.enable_progress_bar=false",
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ranks_of_a_job_join_it(training: list[str], tmp_path: Path) -> None:
    arguments = [part for part in training if part != "trainer=cpu"]
    # Both processes write a log into the folder of their job; the first one states the size of the batch.
    swept = ("data.batch_size=2,4", "trainer=ddp_cpu", "trainer.max_epochs=1", "logger=wandb")
    sweep = tmp_path / "sweep"
    done = program("train", "-m", *arguments, *swept, f"hydra.sweep.dir={sweep}", timeout=500)
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1"]
    for number, batch in ((0, 2), (1, 4)):
        folder = sweep / str(number)
        assert len(list((folder / "wandb").glob("offline-run-*"))) == 1
        said = {path.name: re.findall(r"global batch (\d+)", path.read_text()) for path in folder.glob("train*.log")}
        assert said == {"train.log": [str(batch)], "train_ddp_process_1.log": []}
        assert read_jobs(sweep)[number].state == "finished"
    assert "J&F-Mean" in done.stdout
    assert not list(ROOT.glob("multirun")), "no rank started a sweep of its own"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stopped_sweep_continues(training: list[str], tmp_path: Path) -> None:
    swept = ("seed=0,1", "trainer.max_epochs=30", "trainer.limit_val_batches=0", "test=null")
    command = [sys.executable, "-m", "src.train", "-m", *training, *swept, f"hydra.sweep.dir={tmp_path}"]
    checkpoint = tmp_path / "0" / "checkpoints" / "last.ckpt"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        while not checkpoint.is_file():
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=100)
    assert running.returncode == 143
    assert f"stopped by SIGTERM; continue with the same command and hydra.sweep.dir={tmp_path}" in said
    assert [job.state for job in read_jobs(tmp_path).values()] == ["stopped", "waiting"]
    assert torch.load(checkpoint, weights_only=True)["epoch"] < 29
    program("train", "-m", *training, *swept, f"hydra.sweep.dir={tmp_path}", timeout=400)
    assert [job.state for job in read_jobs(tmp_path).values()] == ["finished", "finished"]
    assert "resume=auto" in (tmp_path / "0" / ".hydra" / "overrides.yaml").read_text()
    assert "resume=auto" not in (tmp_path / "1" / ".hydra" / "overrides.yaml").read_text()
    steps = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] for name in "01"
    ]
    assert steps == [60, 60]
