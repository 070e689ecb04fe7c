"""Merges the independent probabilities of objects, as FRTM does: a softmax of their odds.

Shapes: B clips, O objects.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voslab.nn.aggregation import EPSILON


def softmax_of_odds(
    probs: Float[Tensor, "b o H W"], slot_mask: Bool[Tensor, "b o"]
) -> tuple[Float[Tensor, "b o H W"], Float[Tensor, "b o H W"]]:
    """Compute the softmax of the odds p/(1 - p) of objects and background, whose p is min_n (1 - p_n).

    Args:
        probs: B O H W.
        slot_mask: B O, True where a slot is in use.

    Returns:
        the softmax of the objects, B O H W, and the same where the object has the largest value of all, 0 elsewhere:
        the masks that the memory stores.

    Example:
        >>> probs = torch.tensor([0.5, 0.6]).view(1, 2, 1, 1)
        >>> soft, stored = softmax_of_odds(probs, torch.ones(1, 2, dtype=torch.bool))
        >>> soft.flatten(), stored.flatten()
        (tensor([0.2972, 0.4899]), tensor([0.0000, 0.4899]))
    """
    used = slot_mask[:, :, None, None]
    probs = probs.clamp(EPSILON, 1 - EPSILON)
    none = probs.new_full((len(probs), 1, *probs.shape[2:]), 1 - EPSILON)
    background = torch.cat([none, torch.where(used, 1 - probs, 1 - EPSILON)], 1).amin(1, keepdim=True)
    merged = torch.cat([background, probs], 1)
    odds = merged / (1 - merged)
    odds[:, 1:] = odds[:, 1:].masked_fill(~used, -torch.inf)
    soft = odds.softmax(1)
    slots = torch.arange(1, soft.shape[1], device=soft.device).view(1, -1, 1, 1)
    return soft[:, 1:], soft[:, 1:] * (soft.argmax(1, keepdim=True) == slots)
