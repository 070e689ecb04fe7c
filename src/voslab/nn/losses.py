"""Losses on aggregated logits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from voslab.core import VOID


def nll(logits: Float[Tensor, "b c H W"], labels: Int[Tensor, "b H W"]) -> Float[Tensor, ""]:
    """Negative log-likelihood, mean over the pixels that are not void (CRVOS, section 2.5).

    Args:
        logits: B (O+1) H W, aggregated, background first.
        labels: B H W, int64, 0..O or `VOID`.

    Returns:
        scalar; zero (with a gradient path) if every pixel is void.

    Example:
        >>> nll(torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4, dtype=torch.int64))
        tensor(0.6931)
    """
    total = F.nll_loss(logits.float().log_softmax(1), labels, ignore_index=VOID, reduction="sum")
    count = (labels != VOID).sum().clamp(min=1)
    return total / count


def bootstrapped_nll(
    logits: Float[Tensor, "b c H W"], labels: Int[Tensor, "b H W"], keep_ratio: float
) -> Float[Tensor, ""]:
    """Negative log-likelihood over the hardest pixels of each sample (STCN, section 5), mean over samples.

    Args:
        logits: B (O+1) H W, aggregated, background first.
        labels: B H W, int64, 0..O or `VOID`.
        keep_ratio: ratio of the pixels that are not void to keep, in (0, 1]; at least one pixel is kept.

    Returns:
        scalar; zero (with a gradient path) if every pixel is void.

    Example:
        >>> bootstrapped_nll(torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4, dtype=torch.int64), 0.5)
        tensor(0.6931)
    """
    pixels = F.nll_loss(logits.float().log_softmax(1), labels, ignore_index=VOID, reduction="none").flatten(1)
    selected = (labels != VOID).flatten(1)
    count = (selected.sum(1, keepdim=True) * keep_ratio).floor().clamp(min=1)
    if keep_ratio < 1:
        # Void pixels come last: their loss is zero.
        pixels = pixels.sort(1, descending=True).values
        selected = torch.arange(pixels.shape[1], device=labels.device) < count
    return ((pixels * selected).sum(1, keepdim=True) / count).mean()


def bootstrap_ratio(step: int, start: int = 20_000, end: int = 70_000, final: float = 0.15) -> float:
    """Compute the ratio of pixels that `bootstrapped_nll` keeps at an optimiser step.

    Args:
        step: optimiser step.
        start: last step with a ratio of 1.
        end: first step with the final ratio; in between the ratio falls linearly.
        final: final ratio.

    Returns:
        the ratio, from 1 down to `final`.

    Example:
        >>> [bootstrap_ratio(step) for step in (0, 20_000, 70_000, 90_000)]
        [1.0, 1.0, 0.15, 0.15]
    """
    remaining = min(1.0, max(0.0, (end - step) / (end - start)))
    return final + (1 - final) * remaining


def dice(logits: Float[Tensor, "b c H W"], labels: Int[Tensor, "b H W"]) -> Float[Tensor, ""]:
    """Soft Dice loss, 1 - 2|P∩G| / (|P| + |G|), mean over the objects that are visible.

    Every object has the same weight, whatever its size.

    Args:
        logits: B (O+1) H W, aggregated, background first.
        labels: B H W, int64, 0..O or `VOID`.

    Returns:
        scalar in [0, 1]; zero (with a gradient path) if no object is visible.

    Example:
        >>> dice(torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4, dtype=torch.int64))
        tensor(0.3200)
    """
    not_void = (labels != VOID).unsqueeze(1)
    slots = torch.arange(1, logits.shape[1], device=labels.device).view(1, -1, 1, 1)
    truth = (labels.unsqueeze(1) == slots).float()
    predicted = logits.float().softmax(1)[:, 1:] * not_void
    overlap = (predicted * truth).sum((2, 3))
    areas = predicted.sum((2, 3)) + truth.sum((2, 3))
    visible = truth.flatten(2).any(2)
    losses = (1 - (2 * overlap + 1) / (areas + 1)) * visible
    return losses.sum() / visible.sum().clamp(min=1)
