"""Soft propagation (section 4.1, Eq. 6 and 7): masks and features follow the codec's own motion vectors.

Shapes: B clips, O objects, C channels, h w cells of a grid at a quarter of the frame's size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from voslab.nn.aggregation import EPSILON, UNUSED


class Propagated(NamedTuple):
    """What the decoder sees of a B-frame.

    Attributes:
        features: V, its own, B C h w; None where nothing uses them.
        carried: V̂, carried to it, B C h w; None where nothing uses them.
        probs: P̂ before aggregation, B O h w.
        corrected: P̄ before aggregation, B O h w.
        selected: cells that were corrected, B 1 h w, bool.
    """

    features: Tensor | None
    carried: Tensor | None
    probs: Tensor
    corrected: Tensor
    selected: Tensor


class Corner(NamedTuple):
    """A place that positions are read from: its row in B·h·w, and its share, both B·h·w long."""

    row: Tensor
    share: Tensor


def warp(
    pictures: Mapping[int, Tensor],
    motion: Tensor,
    references: Tensor,
    bilinear: bool = False,
    bidirectional: bool = True,
) -> Tensor:
    """What each cell's references show: the plain mean over the lists that it uses (Eq. 6), 0 where it uses none.

    A list that points to a picture that is not there counts as unused. Positions outside read the border.

    Args:
        pictures: B C h w by presentation index, at least one, all of one shape.
        motion: B 4 h w in cells: (x, y) to the past, then to the future reference.
        references: B 2 h w, presentation indices; -1 where a list is unused.
        bilinear: between cells; else the nearest one, half away from zero, as published.
        bidirectional: where both lists are used; else the past alone.

    Returns:
        B C h w.
    """
    example = next(iter(pictures.values()))
    batch, channels, height, width = example.shape
    used = torch.zeros_like(references, dtype=torch.bool)
    asked = reference_ids(references)
    pictures = {index: picture for index, picture in pictures.items() if index in asked}
    for index in pictures:
        used |= references == index
    if not bidirectional:
        used[:, 1] &= ~used[:, 0]
    shares = used.float() / used.sum(1, keepdim=True).clamp(min=1)
    out = example.new_zeros(batch * height * width, channels)
    rows = {index: picture.permute(0, 2, 3, 1).reshape(-1, channels) for index, picture in pictures.items()}
    for which in range(2):
        to = torch.where(used[:, which], references[:, which], -1).flatten()
        found = {index: (to == index).nonzero().squeeze(1) for index in rows}
        for corner in _corners(motion[:, 2 * which : 2 * which + 2], bilinear):
            share = (corner.share * shares[:, which].flatten()).to(out.dtype)
            for index, where in found.items():
                if len(where):
                    out.index_add_(0, where, rows[index][corner.row[where]] * share[where].unsqueeze(1))
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2)


def reference_ids(references: Tensor) -> set[int]:
    """All presentation indices in B 2 h w, and -1."""
    return set(torch.unique(references).tolist())


def _corners(motion: Tensor, bilinear: bool) -> Iterator[Corner]:
    """Where displacements B 2 h w (x, y) lead: the nearest cell, or the four around."""
    batch, _, height, width = motion.shape
    device = motion.device
    y = torch.arange(height, device=device).view(-1, 1) + motion[:, 1]
    x = torch.arange(width, device=device) + motion[:, 0]
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    clip = torch.arange(batch, device=device).view(-1, 1, 1) * (height * width)
    if not bilinear:
        # Nothing is below zero any more, so half up is half away from zero.
        row = clip + (y + 0.5).floor().long() * width + (x + 0.5).floor().long()
        yield Corner(row.flatten(), torch.ones_like(x).flatten())
        return
    top, left = y.floor(), x.floor()
    for down in (0, 1):
        for right in (0, 1):
            share = (1 - (y - top - down).abs()) * (1 - (x - left - right).abs())
            inside = (top + down).clamp(max=height - 1).long() * width + (left + right).clamp(max=width - 1).long()
            yield Corner((clip + inside).flatten(), share.flatten())


def aggregate_probs(probs: Tensor, slot_mask: Tensor) -> Tensor:
    """ψ, RGMP's soft aggregation, of probabilities rather than log-odds: sums beyond 1 are legal.

    p_0 = Π (1 - p_k); all clipped to [1e-7, 1 - 1e-7]; odds normalised.

    Args:
        probs: B O h w.
        slot_mask: B O, bool; other slots get 0.

    Returns:
        float32 probabilities B (O+1) h w, background first.
    """
    probs = probs.float() * slot_mask[:, :, None, None]
    nobody = (1 - probs).prod(1, keepdim=True)
    odds = torch.cat([nobody, probs], 1).clamp(EPSILON, 1 - EPSILON).logit()
    unused = torch.cat([torch.zeros_like(slot_mask[:, :1]), ~slot_mask], 1)
    return odds.masked_fill(unused[:, :, None, None], UNUSED).softmax(1)


def foreground(probs: Tensor, slot_mask: Tensor) -> Tensor:
    """Where an object is likelier than the background: B O h w -> B 1 h w, bool."""
    return aggregate_probs(probs, slot_mask).argmax(1, keepdim=True) > 0
