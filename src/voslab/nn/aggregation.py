"""Aggregates independent object scores into one distribution over background and objects.

Both rules return logits whose softmax is the aggregated probability. They are computed in log-odds space, which stays
exact in half precision where the odds would overflow. With one object, both map p to p² / (p² + (1 - p)²).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from voslab.core import Masks
from voslab.nn.precision import at_least_float32

EPSILON = 1e-7
LIMIT = math.log((1 - EPSILON) / EPSILON)
"""Log-log_odds are clipped to ±LIMIT."""
UNUSED = -1e4
"""Logit of an unused slot: finite in half precision, and zero probability after a softmax."""


def aggregate_min(logits: Float[Tensor, "b o H W"], slot_mask: Bool[Tensor, "b o"]) -> Float[Tensor, "b o+1 H W"]:
    """Aggregate by the minimum (CRVOS, BMVOS): p_0 = min_n (1 - p_n), then normalise the log_odds.

    Args:
        logits: B O H W, log-odds of each object against its own background.
        slot_mask: B O, True where a slot is in use.

    Returns:
        float32 logits B (O+1) H W, background first.

    Example:
        >>> logits = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1)
        >>> aggregate_min(logits, torch.ones(1, 2, dtype=torch.bool)).flatten()
        tensor([-2.,  2., -1.])
    """
    logits = _mask(at_least_float32(logits).clamp(-LIMIT, LIMIT), slot_mask)
    # The smallest background belongs to the largest object; log-odds only change sign.
    none = logits.new_full((logits.shape[0], 1, *logits.shape[2:]), -LIMIT)
    background = -torch.cat([none, logits], 1).amax(1, keepdim=True)
    return torch.cat([background, logits], 1)


def aggregate_product(logits: Float[Tensor, "b o H W"], slot_mask: Bool[Tensor, "b o"]) -> Float[Tensor, "b o+1 H W"]:
    """Aggregate by the product (RGMP, STM): p_0 = prod_n (1 - p_n), clip to [1e-7, 1 - 1e-7], normalise the log_odds.

    Args:
        logits: B O H W, log-odds of each object against its own background; may be infinite.
        slot_mask: B O, True where a slot is in use.

    Returns:
        float32 logits B (O+1) H W, background first.

    Example:
        >>> logits = torch.zeros(1, 2, 1, 1)
        >>> aggregate_product(logits, torch.ones(1, 2, dtype=torch.bool)).softmax(1).flatten()
        tensor([0.1429, 0.4286, 0.4286])
    """
    # Beyond 30 nothing is left after clipping to `LIMIT`, but the gradient must not meet an infinity.
    logits = at_least_float32(logits).clamp(-30, 30)
    log_none = -(F.softplus(logits) * slot_mask[:, :, None, None]).sum(1, keepdim=True).clamp(min=1e-14)
    background = (log_none - (-torch.expm1(log_none)).log()).clamp(-LIMIT, LIMIT)
    return torch.cat([background, _mask(logits.clamp(-LIMIT, LIMIT), slot_mask)], 1)


def object_probabilities(logits: Float[Tensor, "b c H W"]) -> Float[Tensor, "b c-1 H W"]:
    """Compute the probabilities of the objects from aggregated logits.

    Args:
        logits: B (O+1) H W, background first.

    Returns:
        probabilities B O H W, without the background.

    Example:
        >>> object_probabilities(torch.zeros(1, 4, 2, 2)).shape
        torch.Size([1, 3, 2, 2])
    """
    return logits.softmax(1)[:, 1:]


def aggregate_masks(masks: Masks) -> Masks:
    """Aggregate given masks like predicted ones, after clipping 0 and 1 to 1e-7 and 1 - 1e-7.

    Args:
        masks: given masks.

    Returns:
        masks with the aggregated probabilities.

    Example:
        >>> masks = Masks(torch.tensor([0.5, 0.0]).view(1, 1, 1, 2), torch.ones(1, 1, dtype=torch.bool))
        >>> aggregate_masks(masks).probs.flatten()
        tensor([5.0000e-01, 1.0000e-14])
    """
    return masks.with_probs(object_probabilities(aggregate_product(masks.probs.logit(), masks.slot_mask)))


def _mask(logits: Tensor, slot_mask: Tensor) -> Tensor:
    return logits.masked_fill(~slot_mask[:, :, None, None], UNUSED)
