"""Tests of sweeps whose jobs train in stages, and of checkpoints that start another variant of a network."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from tests.conftest import Run
from tests.test_cli import CLIPS, ROOT, SMALL, program
from voslab.cli import sweep as sweeps
from voslab.cli.entry import entry
from voslab.cli.jobs import read_jobs
from voslab.cli.stages import stage_commands
from voslab.core import CheckpointError, ConfigError
from voslab.core.archive import read_checkpoint
from voslab.core.checkpoint import CheckpointMetadata
from voslab.data.sources.synthetic.generated import generate
from voslab.methods import registry
from voslab.methods.builder import ModelSpec, build_network
from voslab.methods.checkpoint import write_weights

GAM = {"backbone": "resnet18", "width": 8, "value_channels": 16, "decoder_width": 16, "mem_channels": 8}
CRVOS = {"backbone": "resnet18", "width": 8, "refine_width": 16}
FILE = ["gam_coco", "gam_davis"]


def test_stages_of_a_file_are_for_its_own_recipe_only(tmp_path: Path) -> None:
    assert len(stage_commands(["experiment=gam_davis", "seed=1"], FILE, tmp_path)) == 2
    assert stage_commands(["experiment=equal_gam", "seed=1"], FILE, tmp_path) == [["experiment=equal_gam", "seed=1"]]
    assert len(stage_commands(["experiment=equal_gam", "stages=[equal_gam,gam_davis]"], None, tmp_path)) == 2
    assert stage_commands(["experiment=gam_davis", "stages=null"], FILE, tmp_path) == [["experiment=gam_davis"]]
    with pytest.raises(ConfigError, match=r"stages=gam_coco: must be a list of experiments"):
        stage_commands(["stages=gam_coco"], None, tmp_path)


def test_only_the_first_stage_starts_from_given_weights_and_a_stage_has_overrides_of_its_own(tmp_path: Path) -> None:
    given = ["trainer.max_epochs=9", "weights=start.ckpt", "stages=['a trainer.max_epochs=2',b]"]
    first, second = stage_commands(given, None, tmp_path)
    assert first == ["experiment=a", "weights=start.ckpt", "trainer.max_epochs=2", "test=null", "record=null"]
    last = tmp_path / "stages" / "0" / "checkpoints" / "last.ckpt"
    assert second == ["experiment=b", "trainer.max_epochs=9", f"weights={last}"]


def variant(tmp_path: Path, method: str, network: dict[str, Any]) -> Path:
    torch.manual_seed(1)
    path = tmp_path / f"{method}.safetensors"
    write_weights(registry.build(method, network), path, CheckpointMetadata(method, network))
    return path


@pytest.mark.parametrize(
    ("method", "network", "change", "said"),
    [
        (
            "gam",
            GAM,
            {"cam": False, "mem": False},
            r"dropped cam \(1 tensor\), mem .*; fresh decoder\.conv",
        ),
        ("gam", {**GAM, "cam": False}, {"cam": True}, r"fresh cam \(1 tensor\)$"),
        ("gam", GAM, {"mem": False}, r"dropped mem \(\d+ tensors\); fresh decoder\.conv"),
        ("gam", GAM, {"history": 1}, r"fresh mem \(1 tensor\)$"),
        ("gam", GAM, {"coordinates": False}, r"fresh mem \(1 tensor\)$"),
        ("gam", GAM, {"merge": "sum"}, r"fresh decoder\.conv \(1 tensor\)$"),
        ("gam", GAM, {"fuser": "light"}, r"fresh fuser \(\d tensors\)$"),
        ("crvos", CRVOS, {"specifier": "none"}, r"fresh refine \(1 tensor\)$"),
        ("crvos", CRVOS, {"refine": "bilinear"}, r"dropped refine \(\d tensors\); fresh refine"),
    ],
)
def test_a_variant_starts_from_the_parts_that_it_shares(
    method: str, network: dict[str, Any], change: dict[str, Any], said: str, tmp_path: Path, caplog: Any
) -> None:
    path = variant(tmp_path, method, network)
    caplog.set_level(logging.WARNING)
    spec = ModelSpec(model=method, network={**network, **change}, weights=path)
    with pytest.raises(CheckpointError):
        build_network(spec)
    torch.manual_seed(2)
    fresh = registry.build(method, {**network, **change}).state_dict()
    torch.manual_seed(2)
    model = build_network(ModelSpec(model=method, network={**network, **change}, weights=path, as_variant=True))
    [line] = caplog.messages
    assert line.startswith(f"{path}: loaded into another variant of the network: ")
    assert re.search(said, line), line
    given = read_checkpoint(path).tensors
    for key, value in model.segmenter.state_dict().items():
        kept = key in given and given[key].shape == value.shape
        assert torch.equal(value, given[key] if kept else fresh[key]), key


def test_parts_that_are_not_declared_must_fit(tmp_path: Path) -> None:
    path = variant(tmp_path, "gam", GAM)
    for change in ({"key_channels": 32}, {"width": 16}, {"decoder_width": 32}):
        with pytest.raises(CheckpointError, match="this network's is"):
            build_network(ModelSpec(model="gam", network={**GAM, **change}, weights=path, as_variant=True))
    model = build_network(ModelSpec(model="gam", network=dict(GAM), weights=path, as_variant=True))
    assert torch.equal(model.segmenter.state_dict()["cam.alpha"], read_checkpoint(path).tensors["cam.alpha"])


@entry("train")
def parent(config: DictConfig) -> None:
    """The swept program; its task must not run in the process of the sweep."""
    raise AssertionError(f"a job ran in the process of the sweep: {config}")


@dataclass
class Trainings:
    """Replaces the processes of a sweep. The run whose number is `stops` is stopped by a signal, `fails` fails."""

    started: list[tuple[str, list[str]]] = field(default_factory=list)
    stops: int = -1
    fails: int = -1

    def run(self, command: list[str], log: Path) -> tuple[int, int | None]:
        number = len(self.started)
        self.started.append((log.parent.as_posix().partition("sweep/")[2], command))
        log.write_text("error: it is no good\n")
        if number == self.stops:
            return 143, signal.SIGTERM
        if number == self.fails:
            return 2, None
        (log.parent / "metrics.json").write_text(json.dumps({"J&F-Mean": 0.5}))
        return 0, None


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(sweeps, "_run", made.run)
    return made


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], int]:
    """Run a sweep over two variants in two stages and return its exit code."""

    def start() -> int:
        given = ["sweep=gam_ablation", "point=gc,gam", "data=generated", f"hydra.sweep.dir={tmp_path}/sweep"]
        monkeypatch.setattr(sys, "argv", ["train", "-m", *given])
        try:
            parent()
        except SystemExit as end:
            return int(str(end.code))
        return 0

    return start


RUNS = ["0/stages/0", "0", "1/stages/0", "1"]


def test_every_variant_trains_all_stages_and_the_last_is_the_run_of_the_job(
    sweep: Callable[[], int], trainings: Trainings, tmp_path: Path
) -> None:
    assert sweep() == 0
    assert [folder for folder, _ in trainings.started] == RUNS
    for number, variant in ((0, ["model.network.cam=false", "model.network.mem=false"]), (1, [])):
        stills, videos = (command[3:] for _, command in trainings.started[2 * number : 2 * number + 2])
        assert stills == [
            "experiment=gam_coco", *variant, "data=generated", "test=null", "record=null",
            f"hydra.run.dir={tmp_path}/sweep/{number}/stages/0",
        ]  # fmt: skip
        last = f"{tmp_path}/sweep/{number}/stages/0/checkpoints/last.ckpt"
        assert videos[:-1] == ["experiment=gam_davis", *variant, "data=generated", f"weights={last}"]
        assert videos[-1] == f"hydra.run.dir={tmp_path}/sweep/{number}"
    assert [job.state for job in read_jobs(tmp_path / "sweep").values()] == ["finished", "finished"]


@pytest.mark.parametrize("stopped", [1, 2])
def test_a_repeated_sweep_continues_with_the_stage_that_was_stopped(
    stopped: int, sweep: Callable[[], int], trainings: Trainings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainings.stops = stopped
    assert sweep() == 143
    assert [folder for folder, _ in trainings.started] == RUNS[: stopped + 1]
    checkpoint = tmp_path / "sweep" / RUNS[stopped] / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    trainings.started, trainings.stops = [], -1
    assert sweep() == 0
    assert [folder for folder, _ in trainings.started] == RUNS[stopped:]
    assert ["resume=auto" in command for _, command in trainings.started] == [True, *[False] * (3 - stopped)]
    assert ("stage 1/2 gam_coco: already finished" in capsys.readouterr().out) == (stopped % 2 == 1)
    trainings.started = []
    assert (sweep(), trainings.started) == (0, [])


def test_a_failed_stage_fails_its_job_and_no_other(
    sweep: Callable[[], int], trainings: Trainings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainings.fails = 0
    assert sweep() == 1
    assert [folder for folder, _ in trainings.started] == ["0/stages/0", "1/stages/0", "1"]
    said = capsys.readouterr().out
    assert f"failed with exit code 2: error: it is no good ({tmp_path}/sweep/0/stages/0/job.log)" in said


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a very short training of two stages and two variants."""
    data = tmp_path_factory.mktemp("data")
    generate(data / "DAVIS", train=4, val=2, frames=5, size=(65, 97), objects=(1, 1))
    quiet = ("engine.size=60", f"paths.data={data}", "data=davis2017", "trainer.enable_progress_bar=false")
    swept = ("stages=['crvos_davis trainer.max_epochs=1',crvos_davis]", "model.network.specifier=clue,none")
    short = ("trainer.max_epochs=2", "trainer.accumulate_grad_batches=1", "trainer.limit_val_batches=0", "name=tiny")
    return [*SMALL, *CLIPS, *quiet, *short, *swept]


def test_stages_need_a_sweep(run: Run) -> None:
    assert run("train", "stages=[gam_coco,gam_davis]").startswith("stages=[…] goes with -m")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_sweep_of_two_stages_and_two_variants_finishes_when_repeated(
    training: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "src.train", "-m", *training, f"hydra.sweep.dir={tmp_path}"]
    checkpoint = tmp_path / "0" / "checkpoints" / "last.ckpt"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as running:
        while not checkpoint.is_file():
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=100)
    first = tmp_path / "0" / "stages" / "0" / "checkpoints" / "last.ckpt"
    before = first.stat().st_mtime_ns
    program("train", "-m", *training, f"hydra.sweep.dir={tmp_path}", timeout=400)
    assert first.stat().st_mtime_ns == before, "a finished stage is not repeated"
    assert [job.state for job in read_jobs(tmp_path).values()] == ["finished", "finished"]
    for number in "01":
        stages = [tmp_path / number / "stages" / "0", tmp_path / number]
        contents = [torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in stages]
        assert [content["epoch"] for content in contents] == [0, 1]
        assert f"weights={stages[0]}/checkpoints/last.ckpt" in (stages[1] / ".hydra" / "overrides.yaml").read_text()
        assert not (stages[0] / "per_sequence.csv").exists(), "only the last stage is tested"
        assert (stages[1] / "per_sequence.csv").is_file()
