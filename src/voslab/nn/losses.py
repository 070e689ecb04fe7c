"""Losses on aggregated logits of a clip."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import VOID


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


def bootstrapped_nll(logits: Tensor, labels: Tensor, kept: float) -> Tensor:
    """Negative log-likelihood over the hardest pixels of each sample (STCN, section 5), mean over samples.

    Args:
        logits: B (O+1) H W, aggregated.
        labels: B H W, int64, 0..O or `VOID`.
        kept: share of a sample's pixels that are not void, in (0, 1]; at least one pixel is kept.

    Returns:
        scalar; zero (with a gradient path) when every pixel is void.
    """
    pixels = F.nll_loss(logits.float().log_softmax(1), labels, ignore_index=VOID, reduction="none").flatten(1)
    seen = (labels != VOID).flatten(1)
    count = (seen.sum(1, keepdim=True) * kept).floor().clamp(min=1)
    if kept < 1:
        # Void pixels come last: their loss is zero.
        pixels = pixels.sort(1, descending=True).values
        seen = torch.arange(pixels.shape[1], device=labels.device) < count
    return ((pixels * seen).sum(1, keepdim=True) / count).mean()


def bootstrap_share(step: int, start: int = 20_000, end: int = 70_000, least: float = 0.15) -> float:
    """Share of pixels kept at an optimiser step: all up to `start`, then falling linearly to `least` at `end`.

    >>> [bootstrap_share(step) for step in (0, 20_000, 70_000, 90_000)]
    [1.0, 1.0, 0.15, 0.15]
    """
    left = min(1.0, max(0.0, (end - step) / (end - start)))
    return least + (1 - least) * left


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
