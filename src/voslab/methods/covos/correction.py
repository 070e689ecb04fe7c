"""Residual-based correction (section 4.2; supplement, Eq. 1 and 2): features are matched where prediction failed.

Shapes: B clips, O objects, C channels, h w cells of a grid at a quarter of the frame's size.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.methods.covos.propagation import foreground
from voslab.nn.affinity import attend
from voslab.nn.precision import at_least_float32

Reference = Literal["foreground", "all"]
REFERENCES: tuple[Reference, ...] = get_args(Reference)
"""Positions of the key frame that a cell is matched with: its foreground (published code) or all of them (Eq. 1)."""
MAX_SCALE = 1e6


class Corrected(NamedTuple):
    """Corrected masks, B O h w, and the cells that were corrected, B 1 h w, bool."""

    probs: Tensor
    selected: Tensor


def binarise(residual: Tensor, threshold: float) -> Tensor:
    """Compute e_b, where the mean over channels of the absolute residual exceeds a threshold.

    Args:
        residual: B C h w, or B 1 h w bool, which is returned unchanged.
        threshold: τ, in the units of the residual.

    Returns:
        B 1 h w, bool.
    """
    if residual.dtype == torch.bool:
        return residual
    return residual.abs().mean(1, keepdim=True) > threshold


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Dilate a mask with a square of side 2 · radius + 1.

    Args:
        mask: B 1 h w, bool.
        radius: Dilation of the foreground in cells; 8 equals two 9x9 boxes, as published.

    Returns:
        B 1 h w, bool.
    """
    side = 2 * radius + 1
    rows = F.max_pool2d(mask.float(), (1, side), 1, (0, radius))
    return F.max_pool2d(rows, (side, 1), 1, (radius, 0)) > 0


def correct(
    probs: Tensor,
    slot_mask: Tensor,
    large: Tensor,
    features: Tensor,
    reference_probs: Tensor,
    reference_features: Tensor,
    radius: int = 8,
    clamp: bool = False,
    reference: Reference = "foreground",
    scale: float | None = None,
) -> Corrected:
    """Add masks matched with the nearest key frame to the propagated masks where the residual is large (Eq. 1).

    Only cells near the propagated foreground are corrected, and only if the key frame has a foreground. The patch of a
    cell is the mean of the reference masks over positions of the key frame, weighted by the softmax of
    scale · (2 k·q - |k|²). Over all positions with scale 1 this is Eq. 1 and 2; the published code takes the foreground
    only, so that a patch sums to 1 over the objects, and divides by √C.

    Args:
        probs: P̂, propagated masks, B O h w.
        slot_mask: Slots in use, B O, bool.
        large: e_b, cells with a large residual, B 1 h w, bool.
        features: V of this frame, B C h w.
        reference_probs: Masks of the nearest key frame, B O h w.
        reference_features: V of the nearest key frame, B C h w.
        radius: Dilation of the foreground in cells; 8 equals two 9x9 boxes, as published.
        clamp: Clamp sums to [0, 1]; published ones reach 2.
        reference: Positions of the key frame that are matched; see `REFERENCES`.
        scale: Factor of the similarities; None for 1/√C.

    Returns:
        P̄ before aggregation, and the corrected cells.
    """
    known = foreground(reference_probs, slot_mask)
    selected = large & dilate(foreground(probs, slot_mask), radius) & known.flatten(1).any(1)[:, None, None, None]
    out = probs.clone()
    if reference == "all":
        known = torch.ones_like(known)
    if scale is not None:
        # `attend` divides by √C.
        factor = (scale * features.shape[1] ** 0.5) ** 0.5
        features, reference_features = (at_least_float32(x) * factor for x in (features, reference_features))
    for b in selected.flatten(1).any(1).nonzero().flatten().tolist():
        target, source = selected[b, 0], known[b, 0]
        query = _cells(features[b])[target].unsqueeze(0)
        keys, values = (_cells(x[b])[source][None, None] for x in (reference_features, reference_probs))
        _cells(out[b])[target] += attend(query, keys, values, similarity="l2")[0, 0].to(out.dtype)
    return Corrected(out.clamp(0, 1) if clamp else out, selected)


def _cells(x: Tensor) -> Tensor:
    """View C h w as h w C, which is contiguous for channels-last features."""
    return x.permute(1, 2, 0)
