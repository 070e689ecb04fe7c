"""Carry values (masks, features) from reference pictures to a picture by its motion vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from voslab.core import CodecData

Sampling = Literal["nearest", "bilinear"]

_WIDE = 1 << 31
"""So many places need more than 32 bits."""


def carried(
    codec: CodecData, values: Mapping[int, Tensor], sampling: Sampling = "nearest", stride: int = 1
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
    if codec.motion is None or codec.references is None or not values:
        raise ValueError("values are carried by motion vectors, from at least one reference")
    # Fields are large and conversions dear: small integers throughout, and a look-up table from index to place.
    named = torch.bincount(codec.references.flatten() + 1).nonzero().flatten() - 1
    indices = sorted(set(named.tolist()) & values.keys())
    stack = torch.stack([values[index] for index in indices or list(values)[:1]])
    table = torch.full((int(named.max()) + 2,), -1, dtype=torch.int32)
    table[[index + 1 for index in indices]] = torch.arange(len(indices), dtype=torch.int32)
    table = table.to(stack.device)
    rows = stack.movedim(2, -1)
    total, count = torch.zeros_like(rows[0]), torch.zeros_like(codec.motion[:, 0]).unsqueeze(-1)
    for place in range(2):
        references = codec.references[:, place]
        slots = table.index_select(0, (references.int() + 1).flatten()).view(references.shape)
        if slots.amax() >= 0:
            used = (slots >= 0).unsqueeze(-1).to(total.dtype)
            motion = codec.motion[:, 2 * place : 2 * place + 2] / stride
            total += _sampled(rows, slots.clamp(min=0), motion, sampling) * used
            count += used
    return (total / count.clamp(min=1)).movedim(-1, 1), (count > 0).movedim(-1, 1)


def _sampled(stack: Tensor, slots: Tensor, motion: Tensor, sampling: Sampling) -> Tensor:
    """R B H W C at own position plus `motion` (B 2 H W) in picture `slots` (B H W) of it: B H W C."""
    batch, height, width, channels = stack.shape[1:]
    rows = stack.reshape(-1, channels).squeeze(1)
    y = (torch.arange(height, device=motion.device).view(-1, 1) + motion[:, 1]).clamp_(0, height - 1)
    x = (torch.arange(width, device=motion.device) + motion[:, 0]).clamp_(0, width - 1)
    integer = torch.int32 if len(rows) < _WIDE else torch.int64
    clip = torch.arange(batch, device=motion.device, dtype=integer).view(-1, 1, 1)
    start = (slots.to(integer) * batch + clip) * (height * width)

    def at(place: Tensor) -> Tensor:
        return rows.index_select(0, place.flatten()).view(batch, height, width, -1)

    if sampling == "nearest":
        return at(start.add_((y + 0.5).to(integer), alpha=width).add_((x + 0.5).to(integer)))
    top, left = y.to(integer), x.to(integer)
    down, across = y.frac().unsqueeze(-1), x.frac().unsqueeze(-1)
    below = (top + 1).clamp_(max=height - 1).sub_(top).mul_(width)
    right = (left + 1).clamp_(max=width - 1).sub_(left)
    place = start.add_(top, alpha=width).add_(left)
    upper = torch.lerp(at(place), at(place + right), across)
    place += below
    lower = torch.lerp(at(place), at(place + right), across)
    return torch.lerp(upper, lower, down)
