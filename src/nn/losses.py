"""Losses on aggregated logits of a clip."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from src.core import VOID


def nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood over the pixels that are not void (CRVOS, section 2.5).

    Args:
        logits: B (O+1) H W, aggregated.
        labels: B H W, int64, 0..O or `VOID`.

    Returns:
        scalar; zero (with a gradient path) when every pixel is void.
    """
    total = F.nll_loss(logits.float().log_softmax(1), labels, ignore_index=VOID, reduction="sum")
    count = (labels != VOID).sum().clamp(min=1)
    return total / count


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Soft Dice loss, 1 - 2|P∩G| / (|P| + |G|), mean over the objects that are in the picture.

    Unlike a mean over pixels it does not matter to it how small an object is, so nothing is gained by giving one up.

    Args:
        logits: B (O+1) H W, aggregated.
        labels: B H W, int64, 0..O or `VOID`.

    Returns:
        scalar in [0, 1]; zero (with a gradient path) when there is no object.
    """
    seen = (labels != VOID).unsqueeze(1)
    slots = torch.arange(1, logits.shape[1], device=labels.device).view(1, -1, 1, 1)
    truth = (labels.unsqueeze(1) == slots).float()
    predicted = logits.float().softmax(1)[:, 1:] * seen
    overlap = (predicted * truth).sum((2, 3))
    areas = predicted.sum((2, 3)) + truth.sum((2, 3))
    present = truth.flatten(2).any(2)
    losses = (1 - (2 * overlap + 1) / (areas + 1)) * present
    return losses.sum() / present.sum().clamp(min=1)
