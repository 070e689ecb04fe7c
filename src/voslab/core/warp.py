"""Warps masks or features along motion vectors (CoVOS, Eq. 6 and 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Rounding = Literal["half_up", "half_even", "bilinear"]
Combine = Literal["mean", "past"]

_INT32_LIMIT = 1 << 31


class Warped(NamedTuple):
    """Result of `warp`.

    Attributes:
        values: B C h w; 0 where no reference is used.
        used: B 1 h w, bool: cells with at least one used reference.
    """

    values: Tensor
    used: Tensor


def warp(
    values: Mapping[int, Tensor],
    motion: Tensor,
    references: Tensor,
    rounding: Rounding = "half_up",
    combine: Combine = "mean",
) -> Warped:
    """Warp the values of reference frames to the current frame.

    A cell at position p with displacements d_k to its references r_k gets the mean over k of V[r_k][p + d_k]. A list
    whose reference is not in `values` counts as unused. Positions outside the grid are clamped to the border.

    Args:
        values: B C h w by presentation index, at least one, all of one shape.
        motion: B 4 h w in cells: (x, y) to the past reference, then (x, y) to the future reference.
        references: B 2 h w, integer presentation indices; -1 where a list is unused.
        rounding: "half_up" and "half_even" read the nearest cell and differ in how they round halves; "bilinear"
            interpolates between the four cells around the position.
        combine: "mean" averages both references where both are used; "past" reads the past one alone.

    Returns:
        The warped values and the cells that have some.

    Raises:
        ValueError: if `values` is empty.

    Example:
        >>> source = torch.arange(4.0).view(1, 1, 1, 4)
        >>> motion = torch.tensor([1.0, 0.0, 0.0, 0.0]).view(1, 4, 1, 1).expand(1, 4, 1, 4)
        >>> references = torch.tensor([7, -1]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
        >>> warp({7: source}, motion, references).values.flatten().tolist()
        [1.0, 2.0, 3.0, 3.0]
    """
    if not values:
        raise ValueError("warp: no reference frames were given")
    slots, sources = _slots(values, references)
    used = slots >= 0
    if combine == "past":
        used[:, 1] &= ~used[:, 0]
    # B h w C, so that all channels of a cell are read at once.
    rows = sources.movedim(2, -1)
    total, count = torch.zeros_like(rows[0]), used.sum(1).unsqueeze(-1).to(rows.dtype)
    for which in range(2):
        if used[:, which].any():
            read = _read(rows, slots[:, which].clamp(min=0), motion[:, 2 * which : 2 * which + 2], rounding)
            total += read * used[:, which].unsqueeze(-1).to(total.dtype)
    return Warped((total / count.clamp(min=1)).movedim(-1, 1), used.any(1, keepdim=True))


def _slots(values: Mapping[int, Tensor], references: Tensor) -> tuple[Tensor, Tensor]:
    """Reference indices as positions in a stack: B 2 h w, int32, -1 where unused; and the stack, R B C h w."""
    counts = torch.bincount((references.int() + 1).flatten())
    named = (counts.nonzero().flatten() - 1).tolist()
    indices = [index for index in named if index in values]
    table = torch.full((len(counts) + 1,), -1, dtype=torch.int32)
    table[[index + 1 for index in indices]] = torch.arange(len(indices), dtype=torch.int32)
    slots = table.to(references.device).index_select(0, (references.int() + 1).flatten()).view(references.shape)
    return slots, torch.stack([values[index] for index in indices or list(values)[:1]])


def _read(rows: Tensor, slots: Tensor, motion: Tensor, rounding: Rounding) -> Tensor:
    """Read R B h w C in the sources `slots` (B h w) at each cell's position plus `motion` (B 2 h w): B h w C."""
    count, batch, height, width, channels = rows.shape
    flat = rows.reshape(count * batch * height * width, channels)
    # One-dimensional look-ups are several times as fast.
    flat = flat.squeeze(1) if channels == 1 else flat
    y = (torch.arange(height, device=motion.device).view(-1, 1) + motion[:, 1]).clamp_(0, height - 1)
    x = (torch.arange(width, device=motion.device) + motion[:, 0]).clamp_(0, width - 1)
    # Index arithmetic on full-size fields is dominated by memory traffic.
    integer = torch.int32 if len(flat) < _INT32_LIMIT else torch.int64
    clip = torch.arange(batch, device=motion.device, dtype=integer).view(-1, 1, 1)
    start = (slots.to(integer) * batch + clip) * (height * width)

    def at(index: Tensor) -> Tensor:
        return flat.index_select(0, index.flatten()).view(batch, height, width, channels)

    if rounding != "bilinear":
        y, x = (y.round(), x.round()) if rounding == "half_even" else (y + 0.5, x + 0.5)
        return at(start.add_(y.to(integer), alpha=width).add_(x.to(integer)))
    top, left = y.to(integer), x.to(integer)
    down, across = y.frac().unsqueeze(-1), x.frac().unsqueeze(-1)
    below = (top + 1).clamp_(max=height - 1).sub_(top).mul_(width)
    right = (left + 1).clamp_(max=width - 1).sub_(left)
    index = start.add_(top, alpha=width).add_(left)
    upper = torch.lerp(at(index), at(index + right), across)
    index += below
    lower = torch.lerp(at(index), at(index + right), across)
    return torch.lerp(upper, lower, down)
