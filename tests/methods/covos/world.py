"""A square that moves by known vectors, a base that knows where it is, and small networks to look at it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from voslab.core import CodecData, Frame, Masks, Segmenter, State, state_dataclass
from voslab.core.segmenter import Padding
from voslab.methods import registry
from voslab.methods.covos.network import CoVOS, CoVOSState
from voslab.nn.aggregation import aggregate_product

HEIGHT, WIDTH, SIDE = 64, 96, 16
STEP = (8, 4)
ORDER = (0, 4, 2, 1, 3)
REFERENCES = {2: (0, 4), 1: (0, 2), 3: (2, 4)}
KEYS = (0, 4)
F = {"backbone": "resnet18", "norm": "group", "width": 8}
BASE: dict[str, Any] = {**F, "key_channels": 8, "value_channels": 16, "decoder_width": 8, "top_k": 5}


def square(index: int) -> Tensor:
    """1 1 H W."""
    x, y = 12 + STEP[0] * index, 8 + STEP[1] * index
    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    mask[..., y : y + SIDE, x : x + SIDE] = 1
    return mask


def codec(index: int) -> CodecData:
    """Vectors from anywhere to where the same thing was, or will be; unused where something else was."""
    if index in KEYS:
        return CodecData("P" if index else "I", residual=torch.zeros(1, 1, HEIGHT, WIDTH))
    inside = square(index)[0, 0] > 0
    motion = torch.zeros(1, 4, HEIGHT, WIDTH)
    references = torch.full((1, 2, HEIGHT, WIDTH), -1, dtype=torch.int32)
    for which, to in enumerate(REFERENCES[index]):
        hidden = ~inside & (square(to)[0, 0] > 0)
        references[0, which][~hidden] = to
        for axis in range(2):
            motion[0, 2 * which + axis][inside] = float((to - index) * STEP[axis])
    return CodecData("B", motion, references, torch.zeros(1, 1, HEIGHT, WIDTH))


def frame(index: int, plain: bool = False) -> Frame:
    """Noise, with the square brighter."""
    rng = torch.Generator().manual_seed(index)
    image = torch.rand(1, 3, HEIGHT, WIDTH, generator=rng) * 0.3 + square(index) * 0.5
    return Frame(index, image, None if plain else codec(index), plain or index in KEYS)


def given(objects: int = 1, index: int = 0) -> Masks:
    """The square, cut into columns of equal width: one per object."""
    columns = torch.arange(WIDTH).view(1, 1, 1, -1) - 12 - STEP[0] * index
    slots = torch.arange(objects).view(1, -1, 1, 1)
    probs = square(index) * (columns * objects // SIDE == slots)
    return Masks(probs, torch.ones(1, objects, dtype=torch.bool))


@state_dataclass
class SeenState(State):
    seen: list[int]
    slot_mask: Tensor


class Oracle(Segmenter[SeenState]):
    """Knows all masks of the square, notes which frames it is shown, and has low-level features of its own."""

    stride = 2
    padding: Padding = "mean"

    def begin(self, frame: Frame, masks: Masks) -> SeenState:
        return SeenState([frame.index], masks.slot_mask)

    def step(self, frame: Frame, state: SeenState) -> tuple[Tensor, SeenState]:
        probs = given(state.slot_mask.shape[1], frame.index).probs
        return aggregate_product(probs.logit(), state.slot_mask), SeenState([*state.seen, frame.index], state.slot_mask)

    def add(self, frame: Frame, masks: Masks, state: SeenState, known: Masks | None = None) -> SeenState:
        return SeenState(state.seen, torch.cat([state.slot_mask, masks.slot_mask], 1))

    def features(self, frame: Frame) -> Tensor:
        return torch.nn.functional.avg_pool2d(frame.image, 4).repeat(1, 2, 1, 1)


def covos(base: Segmenter[Any] | None = None, **switches: Any) -> CoVOS:
    torch.manual_seed(0)
    return CoVOS(Oracle() if base is None else base, **{**F, **switches}).eval()


def stcn(memory_every: int = 2) -> Segmenter[Any]:
    torch.manual_seed(0)
    made: Any = registry.build("stcn", {**BASE, "memory_every": memory_every})
    return made.eval()  # type: ignore[no-any-return]


def video(network: CoVOS, masks: Masks | None = None) -> tuple[dict[int, Tensor], CoVOSState]:
    masks = given() if masks is None else masks
    state = network.begin(frame(0), masks)
    outputs = {}
    for index in ORDER[1:]:
        outputs[index], state = network.step(frame(index), state)
    return outputs, state


def small(mask: Tensor) -> Tensor:
    return mask[..., 2::4, 2::4]


def noisy(index: int) -> Frame:
    """With a residual everywhere."""
    made = frame(index)
    assert made.codec is not None
    return replace(made, codec=replace(made.codec, residual=torch.full((1, 1, HEIGHT, WIDTH), 0.2)))
