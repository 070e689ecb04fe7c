from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging

from tests.training.small import checkpoint, data, digest, module, trainer, videos
from voslab.core import CheckpointError
from voslab.core.signals import SIGNALS, Stopped
from voslab.data import VideoSequence
from voslab.training.resume import StepSeed

STEPS = 12  # three epochs of four

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*could not find the monitored key"),
]


class CrashError(Exception):
    pass


class Crash(L.Callback):
    """Ends everything in the middle of a batch, before its step is saved."""

    def __init__(self, batch: int) -> None:
        self.batch, self.seen = batch, 0
        self.validated: set[int] = set()

    def on_before_optimizer_step(self, *_: Any) -> None:
        self.seen += 1
        if self.seen > self.batch:
            raise CrashError

    def on_validation_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.validated.add(trainer.global_step)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> tuple[VideoSequence, ...]:
    return videos(tmp_path_factory.mktemp("videos"))


def run(
    folder: Path, sequences: tuple[VideoSequence, ...], resume: Path | None = None, at: int = 99, **options: Any
) -> tuple[Crash, L.Trainer]:
    crash = Crash(at)
    average = [EMAWeightAveraging(decay=0.5)] if options.pop("average", False) else []
    loading = data(sequences, **options.pop("data", {}))
    made = trainer(folder, crash, *average, **options)
    path = None if resume is None else resume / "checkpoints" / "last.ckpt"
    with suppress(CrashError):
        made.fit(module(), datamodule=loading, ckpt_path=path, weights_only=True)
    return crash, made


OPTIONS: list[dict[str, Any]] = [
    {"every": 3},
    {"max_epochs": -1, "max_steps": STEPS},
    {"val_check_interval": 2},
    {"check_val_every_n_epoch": 2},
    {"data": {"batch_size": 4, "max_batch_per_device": 2}, "max_epochs": 6},
    {"check_val_every_n_epoch": None, "val_check_interval": 3},
    {"limit_val_batches": 0},
    {"val_check_interval": 1},
    {"data": {"batch_size": 4, "max_batch_per_device": 2}, "val_check_interval": 3, "max_epochs": 6},
]


def crashed_and_resumed(
    tmp_path: Path, sequences: tuple[VideoSequence, ...], places: Iterable[int], **options: Any
) -> None:
    whole, _ = run(tmp_path / "whole", sequences, **options)
    expected = checkpoint(tmp_path / "whole")
    assert expected["global_step"] == STEPS
    for at in places:
        folder = tmp_path / str(at)
        first, _ = run(folder, sequences, at=at, **options)
        if not (folder / "checkpoints" / "last.ckpt").is_file():
            assert at <= options.get("every", 1), at
            continue
        saved = checkpoint(folder)["global_step"]
        second, _ = run(folder, sequences, folder, **options)
        now = checkpoint(folder)
        assert second.seen == STEPS - saved, at
        assert digest(now) == digest(expected), at
        assert now["lr_schedulers"] == expected["lr_schedulers"], at
        assert first.validated | second.validated == whole.validated, at


def test_crash_within_an_epoch_resumes_identically(sequences: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    crashed_and_resumed(tmp_path, sequences, (6,))


@pytest.mark.parametrize("at", [6, 9])
def test_weight_average_resumes_identically(sequences: tuple[VideoSequence, ...], tmp_path: Path, at: int) -> None:
    run(tmp_path / "whole", sequences, average=True)
    run(tmp_path / "part", sequences, at=at, average=True)
    run(tmp_path / "part", sequences, tmp_path / "part", average=True)
    expected, found = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "part")
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, found[key][name]) for name, value in expected[key].items()), key
    assert any(
        not torch.equal(value, expected["state_dict"][n]) for n, value in expected["current_model_state"].items()
    )


@pytest.mark.slow
def test_crash_at_any_step_resumes_identically(sequences: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    crashed_and_resumed(tmp_path, sequences, range(1, 9))


@pytest.mark.slow
def test_crash_resumes_identically_with_validation_after_every_step(
    sequences: tuple[VideoSequence, ...], tmp_path: Path
) -> None:
    crashed_and_resumed(tmp_path, sequences, (2,), every=None, val_check_interval=1, limit_val_batches=1)


@pytest.mark.nightly
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
def test_crash_resumes_identically_with_any_interval(
    sequences: tuple[VideoSequence, ...], tmp_path: Path, options: dict[str, Any]
) -> None:
    crashed_and_resumed(tmp_path, sequences, (4, 6), **options)


class Signal(L.Callback):
    """Sends SIGTERM in the given validation."""

    def __init__(self, validation: int) -> None:
        self.left = validation

    def on_validation_batch_start(self, *_: Any) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("accumulate", "interval", "validation", "saved", "validated"),
    [(3, 7, 1, 2, {2}), (1, 1, 1, 0, {1, 2, 3, 4, 5, 6, 7, 8, 9}), (3, 3, 2, 1, {2, 3})],
    ids=["within-accumulation", "first-step", "every-step"],
)
def test_signal_in_validation_stops_after_a_checkpoint(
    sequences: tuple[VideoSequence, ...],
    tmp_path: Path,
    accumulate: int,
    interval: int,
    validation: int,
    saved: int,
    validated: set[int],
) -> None:
    """Validation may begin between two steps or after every step; the checkpoint of the step before exists."""
    handler = signal.getsignal(signal.SIGTERM)

    def fit(*callbacks: L.Callback, resume: Path | None = None) -> None:
        options: dict[str, Any] = {"val_check_interval": interval, "limit_val_batches": 1}
        made = trainer(tmp_path, *callbacks, every=None, max_epochs=1, **options)
        clips = data(sequences, clips_per_epoch=18, batch_size=2 * accumulate, max_batch_per_device=2)
        made.fit(module(), datamodule=clips, ckpt_path=resume, weights_only=True)

    with pytest.raises(Stopped, match="143"):
        fit(Signal(validation))
    assert signal.getsignal(signal.SIGTERM) is handler
    assert SIGNALS.detail == f" at step {saved}; resume={tmp_path}"
    assert checkpoint(tmp_path)["global_step"] == saved
    resumed = Crash(99)
    fit(resumed, resume=tmp_path / "checkpoints" / "last.ckpt")
    assert resumed.seen == 9 // accumulate - saved
    assert resumed.validated == validated


class Positions(L.Callback):
    """Collects the numbers of passes of an epoch after which `last.ckpt` was written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found: set[int] = set()

    def on_train_batch_start(self, *_: Any) -> None:
        if (self.folder / "checkpoints" / "last.ckpt").is_file():
            progress = checkpoint(self.folder)["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            self.found.add(progress["current"]["ready"])


def test_no_checkpoint_is_written_between_accumulated_passes(
    sequences: tuple[VideoSequence, ...], tmp_path: Path
) -> None:
    """Gradients are not in a checkpoint, so one written there could not resume identically."""
    positions = Positions(tmp_path)
    made = trainer(tmp_path, positions, every=1, max_epochs=1, val_check_interval=7, limit_val_batches=1)
    made.fit(module(), datamodule=data(sequences, clips_per_epoch=18, batch_size=6, max_batch_per_device=2))
    assert positions.found == {3, 6}


def test_dropout_depends_on_the_pass_and_not_on_the_process() -> None:
    def draw(passes: int, world: int = 1, rank: int = 0, epoch: int = 0, seed: int = 3) -> float:
        place: Any = SimpleNamespace(current_epoch=epoch, world_size=world, global_rank=rank)
        StepSeed(seed).on_train_batch_start(place, network, None, passes)
        return float(torch.rand(()))

    network = module()
    alone = [draw(passes) for passes in range(6)]
    assert len(set(alone)) == 6
    assert [draw(passes, 2, rank) for passes in range(3) for rank in range(2)] == alone
    assert draw(0, epoch=1) not in alone
    assert draw(0, seed=4) not in alone


def test_resume_requires_the_same_optimizer(sequences: tuple[VideoSequence, ...], tmp_path: Path) -> None:
    run(tmp_path, sequences, at=5)
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    other = module()
    other.on_load_checkpoint(content)
    other.recipe = replace(other.recipe, optimizer=partial(torch.optim.SGD, lr=0.1))
    with pytest.raises(CheckpointError, match="resume: the run was started with another optimizer"):
        other.on_load_checkpoint(content)
    frozen = module()
    next(frozen.segmenter.parameters()).requires_grad_(False)  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match="or with other frozen parts"):
        frozen.on_load_checkpoint(content)
