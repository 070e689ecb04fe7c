from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from tests.training.small import NETWORK, data, module, videos
from voslab.core import CheckpointError
from voslab.core.checkpoint import CheckpointMetadata
from voslab.data import VideoSequence
from voslab.engine import Settings
from voslab.methods import registry
from voslab.training.checkpointing import AtomicCheckpointIO
from voslab.training.module import VOSModule
from voslab.training.recipe import Recipe
from voslab.training.resume import LastCheckpoint, StepSeed

GROUPS = {"encoder_lr_scale": 0.25, "decay_all": False, "freeze_encoder_stages": 1, "warmup": 3}


@pytest.fixture
def sequences(tmp_path: Path) -> tuple[VideoSequence, ...]:
    return videos(tmp_path / "videos", 4)


def pretrained(**options: Any) -> VOSModule:
    torch.manual_seed(0)
    recipe = Recipe(partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1), **options)
    segmenter = registry.build("swiftnet", {**NETWORK, "norm": "batch"})
    return VOSModule(segmenter, recipe, Settings(size=32), CheckpointMetadata("swiftnet", dict(NETWORK)), True)


def fit(folder: Path, steps: int) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        callbacks=[StepSeed(3), LastCheckpoint(str(folder), 1)],
        plugins=[AtomicCheckpointIO()],
        limit_val_batches=0,
        log_every_n_steps=1,
        max_epochs=-1,
        max_steps=steps,
        logger=False,
        inference_mode=False,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test_every_parameter_is_in_the_group_of_its_kind() -> None:
    made = pretrained(encoder_lr_scale=0.25, decay_all=False)
    optimizer: Any = made.configure_optimizers()
    rates = {group["name"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert rates == {
        "rest": (1e-2, 0.1),
        "rest_vectors": (1e-2, 0),
        "encoder": (2.5e-3, 0.1),
        "encoder_vectors": (2.5e-3, 0),
    }
    owner = {id(p): group["name"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(owner)
    for name, parameter in made.segmenter.named_parameters():
        vectors = "_vectors" if parameter.ndim == 1 else ""
        assert owner[id(parameter)] == ("encoder" if name.startswith("encoder.") else "rest") + vectors, name


def test_one_group_without_options_and_for_random_weights() -> None:
    assert len(pretrained().configure_optimizers().param_groups) == 1  # type: ignore[union-attr]
    scaled = module(encoder_lr_scale=0.25, scheduler=None)
    assert len(scaled.configure_optimizers().param_groups) == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(("stages", "trained"), [(0, "conv1"), (1, "layer2"), (2, "layer3")])
def test_frozen_stages_neither_train_nor_update_statistics(stages: int, trained: str) -> None:
    encoder: Any = pretrained(freeze_encoder_stages=stages).train().segmenter.get_submodule("encoder")
    first = next(name for name, parameter in encoder.named_parameters() if parameter.requires_grad)
    assert first.startswith(trained)
    norms = {name: one.training for name, one in encoder.named_modules() if isinstance(one, nn.BatchNorm2d)}
    frozen = ("bn1", *(f"layer{number}." for number in range(1, stages + 1))) if stages else ()
    assert norms == {name: not name.startswith(frozen or "-") for name in norms}


def test_the_log_names_frozen_stages(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        pretrained(freeze_encoder_stages=1).on_fit_start()
    assert "weights were loaded: encoder.conv1, encoder.bn1, encoder.layer1 frozen" in caplog.text


def test_the_learning_rate_warms_up(tmp_path: Path, sequences: tuple[VideoSequence, ...]) -> None:
    used = []

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            used.append(self.param_groups[0]["lr"])
            return super().step(closure)

    made = module(warmup=4, scheduler=None)
    made.recipe = Recipe(partial(Watched, lr=0.1), warmup=4)
    fit(tmp_path, 6).fit(made, data(sequences))
    assert used == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_a_run_with_groups_resumes_bit_exactly(tmp_path: Path, sequences: tuple[VideoSequence, ...]) -> None:
    def trained(folder: str, steps: int, start: str | None = None, **options: Any) -> VOSModule:
        made = pretrained(**{**GROUPS, **options})
        fit(tmp_path / folder, steps).fit(made, data(sequences), ckpt_path=start, weights_only=True)
        return made

    straight, last = trained("straight", 4), str(tmp_path / "half" / "last.ckpt")
    trained("half", 2)
    resumed = trained("resumed", 4, last)
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    with pytest.raises(CheckpointError, match="another optimizer, or with other frozen parts"):
        trained("other", 4, last, decay_all=True)
