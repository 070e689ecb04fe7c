"""Small bases, and a scene that keys can tell apart, for tests of key adaptation."""

from __future__ import annotations

from typing import Any

import torch

from voslab.core import Frame, Masks
from voslab.methods import registry
from voslab.methods.adaptation.network import Adapted

TINY: dict[str, Any] = {
    "backbone": "resnet18",
    "norm": "group",
    "width": 8,
    "key_channels": 8,
    "value_channels": 16,
    "decoder_width": 8,
}
BASES: dict[str, dict[str, Any]] = {
    "cutie": {**TINY, "memory_every": 2, "top_k": 5, "sensory_channels": 8, "queries": 4, "heads": 2},
    "gam": {**TINY, "mem_channels": 16},
    "mivos": {**TINY, "memory_every": 2, "top_k": 5},
    "stcn": {**TINY, "memory_every": 2, "top_k": 5},
    "stm": {**TINY, "memory_every": 2},
    "swiftnet": {**TINY, "memory_every": 2},
    "xmem": {**TINY, "memory_every": 2, "top_k": 5, "sensory_channels": 8},
}
HEIGHT, WIDTH = 64, 96


def base(name: str, **parameters: Any) -> Any:
    torch.manual_seed(0)
    made: Any = registry.build(name, {**BASES[name], **parameters})
    return made.eval()


def adapted(name: str = "swiftnet", **parameters: Any) -> Any:
    made: Any = Adapted(base(name), **{"steps": 4, "lr": 0.1, **parameters})
    return made.eval()


def frame(index: int, batch: int = 1) -> Frame:
    """Noise of an index, in blocks that a cell can see."""
    rng = torch.Generator().manual_seed(index)
    blocks = torch.rand(batch, 3, HEIGHT // 8, WIDTH // 8, generator=rng)
    return Frame(index, torch.nn.functional.interpolate(blocks, (HEIGHT, WIDTH)))


def masks(objects: int, batch: int = 1, first: int = 0) -> Masks:
    """Boxes that cut through cells."""
    probs = torch.zeros(batch, objects, HEIGHT, WIDTH)
    for i in range(objects):
        left = 28 * (i + first)
        probs[:, i, 8:52, left + 4 : left + 26] = 1
    return Masks(probs, torch.ones(batch, objects, dtype=torch.bool))


@torch.no_grad()
def outputs(network: Any, count: int = 4, objects: int = 1, late: int | None = None) -> list[torch.Tensor]:
    """Logits of frames 1 and on of a video; one more object on frame `late`."""
    state = network.begin(frame(0), masks(objects))
    found = []
    for index in range(1, count):
        logits, state = network.step(frame(index), state)
        found.append(logits)
        if index == late:
            state = network.add(frame(index), masks(1, first=objects), state)
    return found
