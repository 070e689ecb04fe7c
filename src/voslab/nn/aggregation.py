"""From independent object scores to one distribution over background and objects.

Two rules are in use: the product form of RGMP and STM, where the background is what no object claims, and the
minimum form of CRVOS and BMVOS, where it is the least certain background. Both return *logits* whose softmax is the
aggregated probability; in log-odds space they are short, and exact in half precision where the odds would overflow.
With one object neither is the identity: both sharpen to p^2 / (p^2 + (1 - p)^2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-7
LIMIT = math.log((1 - EPSILON) / EPSILON)
UNUSED = -1e4
"""Logit of a slot that is not in use: finite also in half precision, and no probability at all after a softmax."""


def aggregate_min(logits: Tensor, slot_mask: Tensor) -> Tensor:
    """Minimum form: p_0 = min_n (1 - p_n), odds normalised.

    Args:
        logits: B O H W, log-odds of each object against its own background (score of object minus background).
        slot_mask: B O, bool.

    Returns:
        float32 logits B (O+1) H W, background first.
    """
    logits = _mask(logits.float().clamp(-LIMIT, LIMIT), slot_mask)
    # The smallest background belongs to the largest object; log-odds only change sign.
    nobody = logits.new_full((logits.shape[0], 1, *logits.shape[2:]), -LIMIT)
    background = -torch.cat([nobody, logits], 1).amax(1, keepdim=True)
    return torch.cat([background, logits], 1)


def aggregate_product(logits: Tensor, slot_mask: Tensor) -> Tensor:
    """Product form: p_0 = prod_n (1 - p_n), all clipped to [1e-7, 1 - 1e-7], odds normalised.

    Args:
        logits: B O H W, log-odds of each object against its own background; infinite ones are certain.
        slot_mask: B O, bool.

    Returns:
        float32 logits B (O+1) H W, background first.
    """
    # Beyond 30 nothing is left after clipping to `LIMIT`, but the gradient must not meet an infinity.
    logits = logits.float().clamp(-30, 30)
    nobody = -(F.softplus(logits) * slot_mask[:, :, None, None]).sum(1, keepdim=True).clamp(min=1e-14)
    background = (nobody - (-torch.expm1(nobody)).log()).clamp(-LIMIT, LIMIT)
    return torch.cat([background, _mask(logits.clamp(-LIMIT, LIMIT), slot_mask)], 1)


def object_probabilities(logits: Tensor) -> Tensor:
    """Aggregated logits B (O+1) H W -> the objects' probabilities B O H W."""
    return logits.softmax(1)[:, 1:]


def _mask(logits: Tensor, slot_mask: Tensor) -> Tensor:
    return logits.masked_fill(~slot_mask[:, :, None, None], UNUSED)
