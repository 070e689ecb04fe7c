"""Tests of logged speed and memory, and of the line per epoch."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from tests.training.small import data, module, trainer, videos
from voslab.data.datamodule import VOSDataModule
from voslab.data.train_loader import TrainLoader
from voslab.training.loggers import Curves
from voslab.training.monitor import EpochProgressBar, Monitor, duration


class Norms(L.Callback):
    """The norm of the gradients that the optimiser gets, by hand."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        squares = [float((p.grad.double() ** 2).sum()) for p in pl_module.parameters() if p.grad is not None]
        self.found.append(sum(squares) ** 0.5)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(found: list[dict[str, str]], name: str) -> list[float]:
    return [float(row[name]) for row in found if row[name]]


def test_speed_and_memory_are_logged_at_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    norms, logger = Norms(), Curves(str(tmp_path), "logs", "")
    made = trainer(tmp_path, norms, Monitor(), max_epochs=2, logger=logger, gradient_clip_val=1e-3)
    made.fit(module(), datamodule=data(videos(tmp_path / "videos")))
    found = rows(tmp_path)
    assert column(found, "train/gradient_norm") == pytest.approx(norms.found, rel=1e-4)
    assert min(norms.found) > 1e-3, "before clipping"
    assert len(norms.found) == len(column(found, "train/loss")) == 8
    assert all(0 < share < 1 for share in column(found, "train/data_wait"))
    assert all(speed > 0 for speed in column(found, "train/clips_per_second"))
    assert len(column(found, "train/peak_memory_mb")) == 8
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch"))
    losses = column(found, "train/loss")
    assert first.startswith(f"epoch 1/2  step 4  loss {sum(losses[:4]) / 4:.4f}")
    assert "to go" in first
    assert second.startswith(f"epoch 2/2  step 8  loss {sum(losses[4:]) / 4:.4f}")
    assert "to go" not in second
    assert f"val J&F {100 * column(found, 'val/J&F-Mean')[1]:.1f}" in second


def test_line_of_an_epoch_has_the_mean_loss_of_accumulated_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = module()
    losses: list[float] = []
    step = trained.training_step

    def training_step(batch: Any) -> torch.Tensor:
        loss = step(batch)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(trained, "training_step", training_step)
    loading = data(videos(tmp_path / "videos"), batch_size=4, max_batch_per_device=2)
    trainer(tmp_path, Monitor(), max_epochs=1, limit_val_batches=1).fit(trained, datamodule=loading)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert line.startswith(f"epoch 1/1  step 2  loss {sum(losses) / 4:.4f}")


def test_every_sequence_of_validation_is_logged(tmp_path: Path) -> None:
    logger = Curves(str(tmp_path), "logs", "")
    made = trainer(tmp_path, max_epochs=1, logger=logger)
    made.fit(module(), datamodule=data(videos(tmp_path / "videos")))
    found = rows(tmp_path)
    scores = {name: column(found, name) for name in found[0] if name.startswith("val/sequences/")}
    assert set(scores) == {"val/sequences/v0", "val/sequences/v1"}
    for place, metric in (("sequences", "J&F"), ("J", "J"), ("F", "F")):
        mean = sum(column(found, f"val/{place}/{name}")[0] for name in ("v0", "v1")) / 2
        assert mean == pytest.approx(column(found, f"val/{metric}-Mean")[0], abs=1e-6)


def test_data_wait_measures_waiting_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, loader = module(), VOSDataModule.training_loader
    step = trained.training_step
    sleeps = {"step": 1.0, "loader": 0.0}

    def training_step(batch: Any) -> torch.Tensor:
        time.sleep(sleeps["step"])
        return step(batch)

    def training_loader(self: VOSDataModule, dataset: Any, size: int, collate: Any) -> TrainLoader:
        def late(items: Any) -> Any:
            time.sleep(sleeps["loader"])
            return collate(items)

        return loader(self, dataset, size, late)

    monkeypatch.setattr(trained, "training_step", training_step)
    monkeypatch.setattr(VOSDataModule, "training_loader", training_loader)
    shares = []
    for name, sleep in (("working", {"step": 1.0, "loader": 0.0}), ("waiting", {"step": 0.0, "loader": 1.5})):
        sleeps.update(sleep)
        folder = tmp_path / name
        made = trainer(folder, Monitor(), max_steps=2, logger=Curves(str(folder), "logs", ""))
        made.fit(trained, datamodule=data(videos(tmp_path / "videos", 4)))
        shares.append(column(rows(folder), "train/data_wait"))
    assert max(shares[0]) < 0.5
    assert min(shares[1]) > 0.5


@pytest.mark.parametrize(("seconds", "said"), [(7.24, "7.2 s"), (95, "95 s"), (4000, "67 min"), (200000, "55.6 h")])
def test_duration_format(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(("most", "shown"), [(1, "Epoch 1/1"), (-1, "Epoch 1")])
def test_progress_bar_counts_epochs_like_the_lines(most: int, shown: str) -> None:
    bar = EpochProgressBar()
    bar.setup(L.Trainer(accelerator="cpu", max_epochs=most, logger=False, callbacks=[bar]), L.LightningModule(), "fit")
    assert bar._get_train_description(0).strip() == shown
