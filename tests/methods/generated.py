"""Generated videos with two objects, and a short training on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voslab.core import Clip, Segmenter
from voslab.data.sources.synthetic.scene import draw, make_scene
from voslab.engine import Settings, run
from voslab.metrics import boundary_f, jaccard
from voslab.training.module import VOSModule

SIZE, BATCH = (64, 96), 4


def drawn(name: str, index: int, frames: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Frames T H W 3 and labels T H W of a video with two objects."""
    scene = make_scene((name, index), 3 * frames, SIZE, (2, 2))
    images, labels = zip(*(draw(scene, 3 * frame, SIZE) for frame in range(frames)), strict=True)
    return np.stack(images), np.stack(labels)


def clips(step: int) -> Clip:
    videos = [drawn("train", BATCH * step + i, 3) for i in range(BATCH)]
    images = torch.stack([torch.from_numpy(images).permute(0, 3, 1, 2) for images, _ in videos])
    labels = torch.stack([torch.from_numpy(labels).long() for _, labels in videos])
    return Clip(images.float() / 255, labels, torch.ones(BATCH, 2, dtype=torch.bool), ("",) * BATCH)


def score(network: Segmenter[Any]) -> float:
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


def train(module: VOSModule, steps: int, rate: float) -> list[float]:
    """Train with AdamW and return the losses."""
    optimizer, losses = torch.optim.AdamW(module.segmenter.parameters(), lr=rate), []
    for step in range(steps):
        batch = clips(step)
        labels = batch.labels[:, 1:].unbind(1)
        outputs = zip(module.steps(batch), labels, strict=True)
        loss = torch.stack([module.frame_loss(*output, each, batch) for output, each in outputs]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.segmenter.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
