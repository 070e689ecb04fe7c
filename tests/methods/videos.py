"""Small videos for tests of matching networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from voslab.core import Clip, Frame, Masks, Segmenter
from voslab.nn.memory import Bank


def frame(index: int, batch: int = 1) -> Frame:
    rng = torch.Generator().manual_seed(index)
    return Frame(index, torch.rand(batch, 3, 32, 48, generator=rng))


def masks(objects: int, batch: int = 1) -> Masks:
    probs = torch.zeros(batch, objects, 32, 48)
    for i in range(objects):
        probs[:, i, 4:28, 12 * i : 12 * i + 12] = 1
    return Masks(probs, torch.ones(batch, objects, dtype=torch.bool))


def video(network: Segmenter[Any], count: int, objects: int = 1, late: int | None = None) -> Iterator[Any]:
    """The state after each frame but the first; one more object on frame `late`."""
    state = network.begin(frame(0), masks(objects))
    for index in range(1, count):
        _, state = network.step(frame(index), state)
        if index == late:
            state = network.add(frame(index), masks(1), state)
        yield state


def clip(frames: int = 3) -> Clip:
    """Two clips of two objects."""
    images = torch.stack([frame(i, 2).image for i in range(frames)], 1)
    labels = torch.zeros(2, frames, 32, 48, dtype=torch.int64)
    labels[:, :, 4:28, :12], labels[:, :, 4:28, 12:24] = 1, 2
    return Clip(images, labels, torch.ones(2, 2, dtype=torch.bool), ("a", "b"))


def frames_read(bank: Bank) -> float:
    """How many frames a bank reads; a part of one counts as a fraction."""
    return bank.readable / bank.frame_positions
