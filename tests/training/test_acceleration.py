"""Tests of what a training does to use a GPU, as far as it can be seen without one, and of checkpoints by time."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from tests.training import small
from tests.training.test_module import clip, module
from voslab.data import workers
from voslab.training import acceleration, resume
from voslab.training.acceleration import optimizer_options
from voslab.training.recipe import Recipe
from voslab.training.resume import LastCheckpoint

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
ADAMW = partial(torch.optim.AdamW, lr=1e-3)


@pytest.mark.parametrize(
    ("recipe", "device", "options"),
    [
        (Recipe(ADAMW), CUDA, {"fused": True}),
        (Recipe(torch.optim.SGD), CUDA, {"fused": True}),
        (Recipe(ADAMW), CPU, {}),
        (Recipe(ADAMW, fused=False), CUDA, {}),
        (Recipe(partial(ADAMW, foreach=True)), CUDA, {}),
        (Recipe(torch.optim.LBFGS), CUDA, {}),
    ],
)
def test_optimisers_are_fused_on_cuda_where_nothing_speaks_against_it(
    recipe: Recipe, device: torch.device, options: dict[str, Any]
) -> None:
    assert optimizer_options(recipe, device, None) == options


@pytest.mark.parametrize(
    ("precision", "clip", "options"),
    [
        ("bf16-mixed", None, {"fused": True}),
        ("32-true", 1.0, {"fused": True}),
        ("bf16-mixed", 1.0, {}),
    ],
)
def test_clipping_in_mixed_precision_needs_an_optimiser_that_is_not_fused(
    precision: Any, clip: float | None, options: dict[str, Any]
) -> None:
    trainer = L.Trainer(accelerator="cpu", precision=precision, gradient_clip_val=clip, logger=False)
    assert optimizer_options(Recipe(ADAMW), CUDA, trainer) == options


def test_a_compiled_step_gives_the_same_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def compile_eagerly(step: Any) -> Any:
        compiled.append(step)
        return step

    monkeypatch.setattr(acceleration.torch, "compile", compile_eagerly)
    plain, made = module(), module(compile=True)
    assert torch.equal(made.unroll(clip()), plain.unroll(clip()))
    made.unroll(clip())
    assert len(compiled) == 1, "compiled once, and not without being asked"


@pytest.mark.parametrize(("minutes", "steps"), [(None, [3, 4]), (0.0, [1, 2, 3, 4]), (60.0, [3, 4])])
def test_checkpoints_are_written_by_time_too(
    minutes: float | None, steps: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    save = LastCheckpoint._save

    def record(self: LastCheckpoint, trainer: L.Trainer) -> None:
        written.append(trainer.global_step)
        save(self, trainer)

    monkeypatch.setattr(resume.LastCheckpoint, "_save", record)
    trainer = small.trainer(tmp_path, every=None, max_epochs=1)
    [last] = [callback for callback in trainer.callbacks if isinstance(callback, LastCheckpoint)]  # type: ignore[attr-defined]
    last.every_seconds = None if minutes is None else 60 * minutes
    trainer.fit(small.module(), datamodule=small.data(small.videos(tmp_path / "videos")))
    assert written == steps


def test_persistent_workers_load_the_same_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    start = _MultiProcessingDataLoaderIter.__init__

    def count(self: Any, loader: Any) -> None:
        started.append(loader.num_workers)
        start(self, loader)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "__init__", count)
    videos, digests = small.videos(tmp_path / "videos", 4), []
    for keep in (False, True):
        started.clear()
        data = small.data(videos, 2, persistent_workers=keep)
        trainer = small.trainer(tmp_path / str(keep), reload_dataloaders_every_n_epochs=0 if keep else 1)
        trainer.fit(small.module(), datamodule=data)
        digests.append(small.digest(small.checkpoint(tmp_path / str(keep))))
    assert digests[0] == digests[1]
    assert started == [2], "workers started once for three epochs"


def test_the_number_of_workers_follows_from_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    data = small.data(small.videos(tmp_path, 2), None)  # type: ignore[arg-type]
    data.setup("fit")
    assert data.train_dataloader().num_workers == 15
    assert [workers.cores_per_process(count) for count in (1, 8, 32)] == [16, 2, 1]
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    assert workers.cores_per_process(8) == 6


def test_without_a_gpu_nothing_is_page_locked(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    data = small.data(small.videos(tmp_path, 2), pin_memory=True)
    data.setup("fit")
    assert not data.train_dataloader().pin_memory
