"""Carry values (masks, features) from reference pictures to a picture by its motion vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from src.core import Coded

Sampling = Literal["nearest", "bilinear"]


def carried(
    coded: Coded, values: Mapping[int, Tensor], sampling: Sampling = "nearest", stride: int = 1
) -> tuple[Tensor, Tensor]:
    """Values of the references, displaced to where they belong in the picture (CoVOS, Eq. 6 and 7).

    Bi-predicted pixels get the plain mean of both. Positions outside are clamped to the border.

    Args:
        coded: with motion and references at the resolution of `values`.
        values: B C H W, by presentation index. A reference that is not in there counts as an unused list.
        sampling: of positions between pixels; `"nearest"` rounds halves up.
        stride: pixels of the picture per pixel of `values` (4 for fields of a quarter), as motion is in the former.

    Returns:
        B C H W, 0 where nothing is predicted; and B 1 H W, bool, where something is.

    Raises:
        ValueError: the picture has no vectors, or no values are given.
    """
    if coded.motion is None or coded.references is None or not values:
        raise ValueError("values are carried by motion vectors, from at least one reference")
    indices = sorted(set(torch.unique(coded.references).tolist()) & values.keys())
    stack = torch.stack([values[index] for index in indices or list(values)[:1]])
    total, count = torch.zeros_like(stack[0]), torch.zeros_like(coded.motion[:, :1])
    for place in range(2):
        slots = torch.full_like(coded.references[:, place], -1, dtype=torch.int64)
        for slot, index in enumerate(indices):
            slots[coded.references[:, place] == index] = slot
        used = (slots >= 0).unsqueeze(1)
        if used.any():
            found = _sampled(stack, slots.clamp(min=0), coded.motion[:, 2 * place : 2 * place + 2] / stride, sampling)
            total += found * used
            count += used
    return total / count.clamp(min=1), count > 0


def _sampled(stack: Tensor, slots: Tensor, motion: Tensor, sampling: Sampling) -> Tensor:
    """R B C H W at own position plus `motion` (B 2 H W) in picture `slots` (B H W) of it: B C H W."""
    height, width = stack.shape[-2:]
    y = (torch.arange(height, device=motion.device).view(-1, 1) + motion[:, 1]).clamp(0, height - 1)
    x = (torch.arange(width, device=motion.device) + motion[:, 0]).clamp(0, width - 1)
    batch = torch.arange(stack.shape[1], device=motion.device).view(-1, 1, 1)
    source = stack.movedim(2, -1)
    if sampling == "nearest":
        return source[slots, batch, (y + 0.5).long(), (x + 0.5).long()].movedim(-1, 1)
    top, left = y.long(), x.long()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, across = (y - top).unsqueeze(-1), (x - left).unsqueeze(-1)
    upper = torch.lerp(source[slots, batch, top, left], source[slots, batch, top, right], across)
    lower = torch.lerp(source[slots, batch, bottom, left], source[slots, batch, bottom, right], across)
    return torch.lerp(upper, lower, down).movedim(-1, 1)
