"""Residual-based correction (section 4.2; supplement, Eq. 1 and 2): where prediction failed, features are matched.

Shapes: B clips, O objects, C channels, h w cells of a grid at a quarter of the frame's size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.methods.covos.propagation import foreground
from voslab.nn.affinity import attend


class Corrected(NamedTuple):
    """Masks with their patch, B O h w, and the cells that were corrected, B 1 h w, bool."""

    probs: Tensor
    selected: Tensor


def binarise(residual: Tensor, threshold: float) -> Tensor:
    """e_b: mean over channels of |residual| above a threshold: B C h w -> B 1 h w, bool. Bool passes as it is."""
    if residual.dtype == torch.bool:
        return residual
    return residual.abs().mean(1, keepdim=True) > threshold


def dilate(mask: Tensor, radius: int) -> Tensor:
    """A square of side 2 radius + 1 around all that is set: B 1 h w, bool -> the same."""
    side = 2 * radius + 1
    pad_objects = F.max_pool2d(mask.float(), (1, side), 1, (0, radius))
    return F.max_pool2d(pad_objects, (side, 1), 1, (radius, 0)) > 0


def correct(
    probs: Tensor,
    slot_mask: Tensor,
    large: Tensor,
    features: Tensor,
    reference_planes: Tensor,
    reference_features: Tensor,
    radius: int = 8,
    clip: bool = False,
) -> Corrected:
    """Add to carried masks what the nearest key frame's foreground says of cells whose residual is large (Eq. 1).

    A cell is corrected near the carried foreground only. Its patch is the mean of the reference's masks over their
    foreground, weighted by softmax of (2 k·q - |k|²) / √C (Eq. 2, up to the factor), and so of mass 1: it can only add.

    Args:
        probs: P̂, B O h w.
        slot_mask: B O, bool.
        large: e_b, B 1 h w, bool.
        features: V of this frame, B C h w.
        reference_planes: of the nearest key frame, B O h w.
        reference_features: V of the nearest key frame, B C h w.
        radius: of the dilation of P̂'s foreground, in cells; 8 are two 9x9 boxes, as published.
        clip: sums to at most 1; published ones reach 2.

    Returns:
        P̄ before aggregation, and which cells were corrected.
    """
    known = foreground(reference_planes, slot_mask)
    selected = large & dilate(foreground(probs, slot_mask), radius) & known.flatten(1).any(1)[:, None, None, None]
    out = probs.clone()
    for b in selected.flatten(1).any(1).nonzero().flatten().tolist():
        at, source = selected[b, 0], known[b, 0]
        query = _cells(features[b])[at].unsqueeze(0)
        keys, values = (_cells(x[b])[source][None, None] for x in (reference_features, reference_planes))
        _cells(out[b])[at] += attend(query, keys, values, similarity="l2")[0, 0].to(out.dtype)
    return Corrected(out.clamp(0, 1) if clip else out, selected)


def _cells(x: Tensor) -> Tensor:
    """A view of C h w as h w C: a cell's channels lie together where features are channels-last."""
    return x.permute(1, 2, 0)
