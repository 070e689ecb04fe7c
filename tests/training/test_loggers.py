"""Tests of the id of a run in W&B, and of its uploads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from voslab.training.artifacts import publish
from voslab.training.loggers import RUN_ID, run_id, wandb_logger


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    # A test of distributed training in the same process leaves its own.
    monkeypatch.setattr(rank_zero_only, "rank", 0)


def test_resumed_run_keeps_its_id(tmp_path: Path) -> None:
    first = run_id(tmp_path / "first", None)
    assert (tmp_path / "first" / RUN_ID).read_text().strip() == first
    assert run_id(tmp_path / "first", "auto") == first
    assert run_id(tmp_path / "second", str(tmp_path / "first")) == first
    assert run_id(tmp_path / "third", str(tmp_path / "second")) == first
    others = [run_id(tmp_path / name, None) for name in ("first", "other")]
    assert len({first, *others}) == 3, "the same folder, but another training"
    assert run_id(tmp_path / "fresh", "auto") not in {first, *others}
    assert first.isalnum()


def test_sweep_agent_sets_the_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "of-the-agent")
    assert run_id(tmp_path / "run", None) == "of-the-agent"


def test_only_process_0_writes_the_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    run_id(tmp_path, None)
    assert not (tmp_path / RUN_ID).exists()


@pytest.mark.parametrize(
    ("asked", "job", "group"), [(None, True, "a sweep"), ("mine", True, "mine"), (None, False, None)]
)
def test_jobs_of_a_sweep_form_a_group(tmp_path: Path, asked: str | None, job: bool, group: str | None) -> None:
    folder = tmp_path / "a sweep" / "3"
    folder.mkdir(parents=True)
    if job:
        (folder / "job.json").write_text("{}")
    logger = wandb_logger("vos-lab", "name", str(folder), group=asked)
    assert logger._wandb_init["group"] == group
    assert logger._wandb_init["resume"] == "allow"
    assert logger.version == (folder / RUN_ID).read_text().strip()


def test_wandb_starts_without_a_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logger = wandb_logger("vos-lab", "name", str(tmp_path))
    assert logger.experiment.id
    logger.experiment.finish()
    assert "WARNING" not in capfd.readouterr().err


class Online:
    """A run of W&B that keeps what it is given."""

    id = "abc"

    def __init__(self) -> None:
        self.logged: dict[str, Any] = {}
        self.artifacts: dict[str, tuple[Any, Any]] = {}

    def log(self, content: dict[str, Any]) -> None:
        self.logged |= content

    def log_artifact(self, artifact: Any, aliases: list[str] | None = None) -> None:
        self.artifacts[artifact.name] = (artifact, aliases)


def test_finished_training_uploads_table_model_and_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gallery").mkdir()
    for name in ("metrics.json", "gallery/dog.png", "best.ckpt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "per_sequence.csv").write_text("sequence,object,J&F-Mean\ndog,1,0.5\n")
    run, logger = Online(), wandb_logger("vos-lab", "name", str(tmp_path))
    monkeypatch.setattr(WandbLogger, "experiment", run)
    publish([CSVLogger(tmp_path), logger], tmp_path, tmp_path / "best.ckpt")
    table = run.logged["test/per_sequence"]
    assert (table.columns, table.data) == (["sequence", "object", "J&F-Mean"], [["dog", 1.0, 0.5]])
    model, aliases = run.artifacts["model-abc"]
    assert (model.type, list(model.manifest.entries), aliases) == ("model", ["best.ckpt"], ["best"])
    assert model.manifest.entries["best.ckpt"].local_path == str(tmp_path / "best.ckpt"), "it is not copied"
    results, _ = run.artifacts["results-abc"]
    assert sorted(results.manifest.entries) == ["gallery/dog.png", "metrics.json", "per_sequence.csv"]
