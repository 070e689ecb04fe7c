from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training import small
from voslab.core import VOID, Clip, Frame, Masks
from voslab.core.checkpoint import CheckpointMetadata
from voslab.engine import Settings
from voslab.methods import registry
from voslab.methods.crvos.module import CRVOSModule
from voslab.methods.crvos.network import CRVOS
from voslab.nn.losses import nll
from voslab.training.checkpointing import recompute
from voslab.training.module import VOSModule
from voslab.training.recipe import Recipe

FREEZE = ("encoder.conv1", "encoder.bn1", "encoder.layer1", "encoder.layer2", "encoder.layer3")


def module(pretrained: bool = False, norm: str = "group", **recipe: Any) -> CRVOSModule:
    torch.manual_seed(0)
    network = {"backbone": "resnet18", "norm": norm, "width": 8}
    made = Recipe(partial(torch.optim.Adam, lr=1e-4), freeze=FREEZE, **recipe)
    metadata = CheckpointMetadata("crvos", network)
    return CRVOSModule(CRVOS(**network), made, Settings(), metadata, pretrained)  # type: ignore[arg-type]


def clip(frames: int = 4, height: int = 32, width: int = 48, batch: int = 2) -> Clip:
    rng = torch.Generator().manual_seed(1)
    images = torch.rand(batch, frames, 3, height, width, generator=rng)
    labels = torch.zeros(batch, frames, height, width, dtype=torch.int64)
    labels[:, :, 8:20, 10:30] = 1
    return Clip(images, labels, torch.ones(batch, 1, dtype=torch.bool), tuple(f"clip{i}" for i in range(batch)))


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_unroll_returns_all_frames_but_the_first(size: tuple[int, int]) -> None:
    assert module().unroll(clip(4, *size)).shape == (2, 3, 2, *size)


def test_clips_are_transferred_as_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, given = small.module(), []
    step = trained.training_step

    def training_step(batch: Clip) -> torch.Tensor:
        given.append(batch)
        return step(batch)

    monkeypatch.setattr(trained, "training_step", training_step)
    loading = small.data(small.videos(tmp_path / "videos"))
    small.trainer(tmp_path, max_epochs=1).fit(trained, datamodule=loading)
    loading.trainer = None
    loaded = list(loading.train_dataloader())
    assert len(loaded) == len(given) == 4
    for packed, clip in zip(loaded, given, strict=True):
        assert (packed.images.dtype, packed.labels.dtype) == (torch.uint8, torch.uint8)
        assert (clip.images.dtype, clip.labels.dtype) == (torch.float32, torch.int64)
        assert torch.equal(clip.images, packed.images / 255)
        assert torch.equal(clip.labels, packed.labels.long())
        assert clip.names == packed.names


def test_overfits_one_clip() -> None:
    trained, batch = module(), clip()
    optimizer = torch.optim.Adam(trained.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        logits = trained.unroll(batch)
        loss = torch.stack([trained.loss(logits[:, i], batch.labels[:, i + 1]) for i in range(3)]).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_gradients_flow_through_predicted_masks() -> None:
    batch = clip()
    images = batch.images.requires_grad_()
    module().unroll(batch)[:, -1, 1].sum().backward()
    assert images.grad is not None
    reached = images.grad.abs().sum((0, 2, 3, 4))
    assert reached[0] == 0, "CRVOS never looks at the first image"
    assert (reached[1:] > 0).all()


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_recomputing_changes_neither_gradients_nor_statistics(norm: str) -> None:
    plain = module(norm=norm)
    again = copy.deepcopy(plain)
    again.recipe = Recipe(plain.recipe.optimizer, checkpoint=True)
    for made in (plain, again):
        logits = made.train().unroll(clip())
        nll(logits[:, -1], clip().labels[:, -1]).backward()
    for (name, a), (_, b) in zip(plain.segmenter.named_parameters(), again.segmenter.named_parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.allclose(a.grad, b.grad, atol=1e-6), name
    for (name, a), (_, b) in zip(plain.segmenter.named_buffers(), again.segmenter.named_buffers(), strict=True):
        assert torch.equal(a, b), name


def test_memory_format_changes_no_result() -> None:
    assert torch.allclose(module(channels_last=True).unroll(clip()), module().unroll(clip()), atol=1e-4)


def test_dice_is_added_with_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CRVOSModule, "log", lambda *args, **kwargs: None)
    plain, half, whole = (module(dice=weight).training_step(clip()) for weight in (0.0, 0.5, 1.0))
    assert (whole - half).item() == pytest.approx((half - plain).item(), rel=1e-3)
    assert whole > half > plain


def test_recomputing_keeps_no_activations() -> None:
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    def saved(step_of: Any) -> int:
        kept.clear()
        network = module().segmenter
        masks = Masks(torch.rand(1, 1, 32, 48), torch.ones(1, 1, dtype=torch.bool))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            state = network.begin(Frame(0, torch.rand(1, 3, 32, 48)), masks)
            step_of(network)(Frame(1, torch.rand(1, 3, 32, 48)), state)
        return sum(kept)

    assert saved(recompute) < 0.1 * saved(lambda network: network.step)


def test_freezing_applies_with_encoder_weights() -> None:
    made = module(pretrained=True, norm="batch").train()
    frozen = {name for name, p in made.segmenter.named_parameters() if not p.requires_grad}
    assert any(name.startswith("encoder.layer3") for name in frozen)
    assert not any(name.startswith(("encoder.layer4", "refine")) for name in frozen)
    for name, layer in made.segmenter.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.training == name.startswith("encoder.layer4"), name
    assert made.configure_optimizers().param_groups[0]["lr"] == 1e-4


def test_fitting_keeps_the_statistics_of_frozen_batch_norm(tmp_path: Path) -> None:
    network = {**small.NETWORK, "norm": "batch"}
    recipe = Recipe(torch.optim.Adam, freeze_bn=True)
    metadata = CheckpointMetadata("swiftnet", network)
    made = VOSModule(registry.build("swiftnet", dict(network)), recipe, Settings(size=32), metadata, pretrained=True)
    before = {name: buffer.clone() for name, buffer in made.segmenter.named_buffers()}
    assert any(name.endswith("running_mean") for name in before)
    small.trainer(tmp_path, max_epochs=1).fit(made, datamodule=small.data(small.videos(tmp_path / "videos")))
    assert all(torch.equal(buffer, before[name]) for name, buffer in made.segmenter.named_buffers())


def test_everything_trains_with_the_optimizers_rate_without_weights(caplog: pytest.LogCaptureFixture) -> None:
    made = module(pretrained=False, norm="batch").train()
    assert all(p.requires_grad for p in made.segmenter.parameters())
    assert all(layer.training for layer in made.modules())
    assert made.configure_optimizers().param_groups[0]["lr"] == 1e-4
    with caplog.at_level("INFO"):
        made.on_fit_start()
    assert caplog.messages == ["random weights: all 0.81 M parameters train, learning rate 0.0001"]


def test_void_pixels_are_ignored() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    labels = torch.randint(0, 3, (1, 4, 4))
    labels[0, :2] = VOID
    expected = torch.nn.functional.cross_entropy(logits[:, :, 2:], labels[:, 2:])
    assert torch.allclose(nll(logits, labels), expected)
    nothing = nll(logits, torch.full_like(labels, VOID))
    nothing.backward()
    assert nothing.item() == 0
    assert (logits.grad == 0).all()
