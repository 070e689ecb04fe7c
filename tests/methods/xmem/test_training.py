"""A tiny XMem learns in a minute: the loss falls, and masks of videos that it has not seen get better."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from voslab.core import Clip
from voslab.core.checkpoint import CheckpointMetadata
from voslab.data.sources.synthetic.scene import draw, make_scene
from voslab.engine import Settings, run
from voslab.methods.xmem.module import XMemModule
from voslab.methods.xmem.network import XMem
from voslab.metrics import boundary_f, jaccard
from voslab.training.recipe import Recipe

SIZE, STEPS, BATCH = (64, 96), 60, 4


def drawn(name: str, index: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames T H W 3 and labels T H W of a video with two objects."""
    scene = make_scene((name, index), 3 * frames, SIZE, (2, 2))
    images, labels = zip(*(draw(scene, 3 * frame, SIZE) for frame in range(frames)), strict=True)
    return np.stack(images), np.stack(labels)


def clips(step: int) -> Clip:
    videos = [drawn("train", BATCH * step + i, 3) for i in range(BATCH)]
    images = torch.stack([torch.from_numpy(images).permute(0, 3, 1, 2) for images, _ in videos])
    labels = torch.stack([torch.from_numpy(labels).long() for _, labels in videos])
    return Clip(images.float() / 255, labels, torch.ones(BATCH, 2, dtype=torch.bool), ("",) * BATCH)


def score(network: XMem) -> float:
    """Mean of J and F over objects and later frames of four videos."""
    network.eval()
    found = []
    for index in range(4):
        images, labels = drawn("val", index, 6)
        predictions = list(run(network, list(images), {0: labels[0].astype(np.int64)}, Settings()))
        for prediction, truth in zip(predictions[1:], labels[1:], strict=True):
            for slot in (1, 2):
                masks = prediction.ids == slot, truth == slot
                found.append((jaccard(*masks) + boundary_f(*masks)) / 2)
    network.train()
    return float(np.mean(found))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_of_training_lowers_the_loss_and_raises_the_score() -> None:
    torch.manual_seed(0)
    channels = {"key_channels": 16, "value_channels": 32, "sensory_channels": 8, "decoder_width": 16}
    network = XMem(backbone="resnet18", norm="group", width=16, memory_every=2, **channels)  # type: ignore[arg-type]
    recipe = Recipe(torch.optim.AdamW)
    module = XMemModule(network, recipe, Settings(), CheckpointMetadata("xmem", {}), pretrained=False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    before, losses = score(network), []
    for step in range(STEPS):
        batch = clips(step)
        logits = module.unroll(batch)
        pairs = zip(logits.unbind(1), batch.labels[:, 1:].unbind(1), strict=True)
        loss = torch.stack([module.loss(*pair) for pair in pairs]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert score(network) > before + 0.05
