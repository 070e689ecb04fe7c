from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from tests.training.small import checkpoint, data, module, trainer, videos
from voslab.data import VideoSequence
from voslab.training.finite import FiniteGuard, NotFiniteError, all_finite
from voslab.training.module import VOSModule


class Accident(L.Callback):
    """Makes the loss, a gradient or a weight of one step NaN or infinite."""

    def __init__(self, what: str, step: int, value: float = float("nan")) -> None:
        self.what, self.step, self.value = what, step, value

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, index: int) -> None:
        if self.what == "loss" and trainer.global_step == self.step:
            batch.images[0, 0, 0, 0, 0] = self.value

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.what == "gradient" and trainer.global_step == self.step:
            next(iter(pl_module.parameters())).grad.view(-1)[3] = self.value  # type: ignore[union-attr]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self.what == "weights" and trainer.global_step == self.step + 1:
            with torch.no_grad():
                next(iter(pl_module.parameters())).view(-1)[3] = self.value


@pytest.fixture
def sequences(tmp_path: Path) -> tuple[VideoSequence, ...]:
    return videos(tmp_path, 6)


def run(folder: Path, sequences: tuple[VideoSequence, ...], accident: Accident, skip: int = 0) -> tuple[VOSModule, Any]:
    guard, trained = FiniteGuard(skip), module()
    made = trainer(folder, accident, guard, max_epochs=2, limit_val_batches=1)
    made.fit(trained, datamodule=data(sequences))
    return trained, guard


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("what", ["loss", "gradient", "weights"])
def test_non_finite_value_stops_training_and_keeps_the_checkpoint(
    sequences: tuple[VideoSequence, ...], tmp_path: Path, what: str, value: float
) -> None:
    clips = r"v\d [\d,]+; v\d [\d,]+"
    with pytest.raises(NotFiniteError, match=rf"{what}.* at step 3, clips {clips}; checkpoints") as caught:
        run(tmp_path, sequences, Accident(what, 3, value))
    assert "\n" not in str(caught.value)
    kept = checkpoint(tmp_path)
    assert kept["global_step"] == 3
    assert all(math.isfinite(tensor.sum()) for tensor in kept["state_dict"].values())


def test_steps_are_skipped_up_to_the_limit(sequences: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    trained, guard = run(tmp_path, sequences, Accident("gradient", 3), skip=1)
    assert guard.skipped == 1
    assert all_finite(trained.parameters())
    last = checkpoint(tmp_path)
    assert last["global_step"] == 6
    assert last["callbacks"]["FiniteGuard"] == {"skipped": 1}
    again = FiniteGuard(1)
    again.load_state_dict(last["callbacks"]["FiniteGuard"])
    assert again.skipped == 1


def test_huge_values_are_finite() -> None:
    assert all_finite([torch.full((100,), 3e38), None])
    assert not all_finite([torch.ones(3), torch.tensor([0.0, float("-inf")])])
