"""A tiny refiner learns in a minute: the loss falls, and masks of videos that it has not seen get better."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from voslab.core import Clip
from voslab.core.checkpoint import CheckpointMetadata
from voslab.data.sources.synthetic.scene import draw, make_scene
from voslab.engine import Settings, run
from voslab.methods.frtm.module import FRTMModule
from voslab.methods.frtm.network import FRTM
from voslab.metrics import boundary_f, jaccard
from voslab.training.recipe import Recipe

SIZE, STEPS, BATCH = (64, 96), 60, 4


def drawn(name: str, index: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames T H W 3 and labels T H W of a video with one object."""
    scene = make_scene((name, index), 3 * frames, SIZE, (1, 1))
    images, labels = zip(*(draw(scene, 3 * frame, SIZE) for frame in range(frames)), strict=True)
    return np.stack(images), np.stack(labels)


def clips(step: int) -> Clip:
    videos = [drawn("train", BATCH * step + i, 3) for i in range(BATCH)]
    images = torch.stack([torch.from_numpy(images).permute(0, 3, 1, 2) for images, _ in videos])
    labels = torch.stack([torch.from_numpy(labels).long() for _, labels in videos])
    return Clip(images.float() / 255, labels, torch.ones(BATCH, 1, dtype=torch.bool), ("",) * BATCH)


def score(network: FRTM) -> float:
    """Mean of J and F over the later frames of four videos."""
    network.eval()
    found = []
    for index in range(4):
        images, labels = drawn("val", index, 6)
        predictions = list(run(network, list(images), {0: labels[0].astype(np.int64)}, Settings()))
        for prediction, truth in zip(predictions[1:], labels[1:], strict=True):
            found.append((jaccard(prediction.ids == 1, truth == 1) + boundary_f(prediction.ids == 1, truth == 1)) / 2)
    network.train()
    return float(np.mean(found))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_of_training_lowers_the_loss_and_raises_the_score() -> None:
    torch.manual_seed(0)
    fit = {"channels": 16, "train_channels": 16, "augmentations": 3, "train_augmentations": 3, "update_every": 2}
    network = FRTM("resnet18", norm="group", width=16, refine_width=16, **fit)  # type: ignore[arg-type]
    metadata = CheckpointMetadata("frtm", {})
    module = FRTMModule(network, Recipe(torch.optim.Adam), Settings(), metadata, pretrained=False)
    optimizer = torch.optim.Adam(network.refiner.parameters(), lr=2e-3)
    before, losses = score(network), []
    for step in range(STEPS):
        batch = clips(step)
        logits = module.unroll(batch)
        pairs = zip(logits.unbind(1), batch.labels[:, 1:].unbind(1), strict=True)
        loss = torch.stack([module.loss(*pair) for pair in pairs]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert score(network) > before + 0.05
