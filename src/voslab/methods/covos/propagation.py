"""Propagated masks and features (section 4.1, Eq. 6 and 7), and their aggregation over objects.

Shapes: B clips, O objects, C channels, h w cells of a grid at a quarter of the frame's size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from voslab.nn.aggregation import EPSILON, UNUSED


class Propagated(NamedTuple):
    """Inputs of the decoder for a B-frame.

    Attributes:
        features: V, B C h w; None if unused.
        warped: V̂, features of the references warped to this frame, B C h w; None if unused.
        probs: P̂ before aggregation, B O h w.
        corrected: P̄ before aggregation, B O h w.
        selected: corrected cells, B 1 h w, bool.
    """

    features: Tensor | None
    warped: Tensor | None
    probs: Tensor
    corrected: Tensor
    selected: Tensor


def reference_ids(references: Tensor) -> set[int]:
    """Return the distinct presentation indices in B 2 h w, -1 included."""
    return set(torch.unique(references).tolist())


def aggregate_probs(probs: Tensor, slot_mask: Tensor) -> Tensor:
    """Aggregate probabilities over objects (ψ, the soft aggregation of RGMP); sums above 1 are allowed.

    p_0 = Π (1 - p_k); all p are clamped to [1e-7, 1 - 1e-7] and their odds are normalised.

    Args:
        probs: B O h w.
        slot_mask: slots in use, B O, bool; other slots get 0.

    Returns:
        float32 probabilities B (O+1) h w, background first.
    """
    probs = probs.float() * slot_mask[:, :, None, None]
    background = (1 - probs).prod(1, keepdim=True)
    odds = torch.cat([background, probs], 1).clamp(EPSILON, 1 - EPSILON).logit()
    unused = torch.cat([torch.zeros_like(slot_mask[:, :1]), ~slot_mask], 1)
    return odds.masked_fill(unused[:, :, None, None], UNUSED).softmax(1)


def foreground(probs: Tensor, slot_mask: Tensor) -> Tensor:
    """Return where an object is more likely than the background: B 1 h w, bool, of probs B O h w."""
    return aggregate_probs(probs, slot_mask).argmax(1, keepdim=True) > 0
