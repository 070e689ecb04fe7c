"""Tests of the names of runs, and of the debug modes and callbacks that a training composes from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger

from tests.conftest import Run
from tests.test_cli import CLIPS, SMALL
from voslab.core.overrides import LIMIT, describe_overrides
from voslab.data.sources.synthetic.generated import generate


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of a training of a few steps."""
    data = tmp_path_factory.mktemp("data")
    generate(data / "DAVIS", train=4, val=2, frames=5, size=(65, 97), objects=(1, 1))
    quiet = ("trainer.enable_progress_bar=false", "engine.size=60", f"paths.data={data}")
    return [*SMALL, *CLIPS, "data=davis2017", *quiet]


@pytest.mark.parametrize(
    ("overrides", "described"),
    [
        (["experiment=gam_davis", "weights=a/b.ckpt", "logger=wandb", "paths.data=/x"], ""),
        (["model.network.history=1", "seed=3"], "history=1_seed=3"),
        (["model=gc", "data=davis2017", "debug=fast"], "gc_davis2017_fast"),
        (["+model.training.dice=0.5", "~callbacks.gallery"], "dice=0.5"),
        (["model.network.specifier=mask", "test=null", "engine.size=240"], "specifier=mask_size=240"),
        (["data.train.root=/a b/c,d"], "root=c-d"),
    ],
)
def test_descriptions_are_short_and_leave_out_what_changes_nothing(overrides: list[str], described: str) -> None:
    assert describe_overrides(overrides) == described


def test_a_long_description_ends_at_a_whole_part() -> None:
    described = describe_overrides([f"model.network.parameter_{i}={i}" for i in range(9)])
    assert len(described) <= LIMIT
    assert described.endswith("parameter_3=3")


def test_a_run_folder_is_named_by_what_differs(run: Run, training: list[str], tmp_path: Path) -> None:
    short = ("debug=profiler", "trainer.max_steps=2", "callbacks=[ema,early_stopping]", "seed=3")
    said = run("train", *training, *short, "name=tiny", f"paths.outputs={tmp_path}")
    assert said == ""
    [folder] = tmp_path.glob("*/*")
    assert folder.name[9:].startswith("tiny_backbone=resnet18_width=8_norm=group")
    assert "run_training_batch" in (folder / "fit-profile.txt").read_text()


def test_runs_of_a_sweep_are_named_by_what_differs_between_them(
    run: Run, training: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for number in (0, 1):
        choices = ["model.network.specifier=mask", "name=tiny", f"seed={number}", "trainer.max_steps=2"]
        job = {"number": number, "choices": choices, "command": choices, "state": "running"}
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "job.json").write_text(json.dumps(job))
    names: list[str] = []

    def logger(**values: Any) -> CSVLogger:
        names.append(values["name"])
        return CSVLogger(tmp_path)

    monkeypatch.setattr("voslab.training.loggers.WandbLogger", logger)
    run("train", *training, *choices, "logger=wandb", f"hydra.run.dir={tmp_path}/1")
    assert names == ["tiny_seed=1"]
