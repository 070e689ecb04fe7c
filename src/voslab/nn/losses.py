"""Losses on aggregated logits."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from voslab.core import VOID
from voslab.nn.precision import at_least_float32


def nll(logits: Float[Tensor, "b c H W"], labels: Int[Tensor, "b H W"]) -> Float[Tensor, ""]:
    """Negative log-likelihood (CRVOS, section 2.5), mean over a sample's pixels that are not void, then over samples.

    As a mean over samples, it does not depend on how a batch is distributed over processes.

    Args:
        logits: B (O+1) H W, aggregated, background first.
        labels: B H W, int64, 0..O or `VOID`.

    Returns:
        scalar; zero (with a gradient path) if every pixel is void.

    Example:
        >>> nll(torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4, dtype=torch.int64))
        tensor(0.6931)
    """
    pixels = F.nll_loss(at_least_float32(logits).log_softmax(1), labels, ignore_index=VOID, reduction="none")
    count = (labels != VOID).flatten(1).sum(1).clamp(min=1)
    return (pixels.flatten(1).sum(1) / count).mean()


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
    pixels = F.nll_loss(at_least_float32(logits).log_softmax(1), labels, ignore_index=VOID, reduction="none").flatten(1)
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
    """Soft Dice loss, 1 - (2|P∩G| + 1) / (|P| + |G| + 1), mean over the visible objects of a sample, then over samples.

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
    predicted = at_least_float32(logits).softmax(1)[:, 1:] * not_void
    truth = (labels.unsqueeze(1) == slots).to(predicted.dtype)
    overlap = (predicted * truth).sum((2, 3))
    areas = predicted.sum((2, 3)) + truth.sum((2, 3))
    visible = truth.flatten(2).any(2)
    losses = (1 - (2 * overlap + 1) / (areas + 1)) * visible
    return (losses.sum(1) / visible.sum(1).clamp(min=1)).mean()
