"""Cutie's losses at sampled points, most of which are those where the prediction is uncertain (PointRend)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from voslab.core import VOID
from voslab.nn.precision import at_least_float32

OVERSAMPLING, UNCERTAIN = 3, 0.75


def sample(maps: Float[Tensor, "b c h w"], points: Float[Tensor, "b p 2"]) -> Float[Tensor, "b c p"]:
    """Sample maps bilinearly; outside they are zero.

    Args:
        maps: B C h w.
        points: B P 2, x and y in [0, 1], from the left top corner of the map to its right bottom corner.

    Returns:
        B C P.

    Example:
        >>> sample(torch.arange(4.0).view(1, 1, 1, 4), torch.tensor([[[0.5, 0.5]]]))
        tensor([[[1.5000]]])
    """
    return F.grid_sample(maps, 2 * points.unsqueeze(2).to(maps.dtype) - 1, align_corners=False).squeeze(3)


def choose_points(
    logits: Float[Tensor, "b c h w"], candidates: Float[Tensor, "b n 2"], others: Float[Tensor, "b m 2"], count: int
) -> Float[Tensor, "b p 2"]:
    """Choose the candidates whose two largest logits are closest, and append other points.

    Args:
        logits: B C h w, background first.
        candidates: B N 2.
        others: B M 2.
        count: number of candidates to choose.

    Returns:
        points B count+M 2.
    """
    values = sample(logits, candidates)
    if values.shape[1] == 2:
        uncertainty = -values[:, 1].abs()
    else:
        first, second = values.topk(2, 1).values.unbind(1)
        uncertainty = second - first
    chosen = uncertainty.topk(count, 1).indices.unsqueeze(2).expand(-1, -1, 2)
    return torch.cat([candidates.gather(1, chosen), others], 1)


@torch.no_grad()
def draw_points(logits: Float[Tensor, "b c h w"], count: int) -> Float[Tensor, "b p 2"]:
    """Draw points uniformly, three times as many as wanted, and keep the uncertain ones for three quarters of them.

    Args:
        logits: B C h w, background first.
        count: P.

    Returns:
        points B P 2.

    Example:
        >>> draw_points(torch.zeros(2, 3, 4, 4), 16).shape
        torch.Size([2, 16, 2])
    """
    uncertain = int(UNCERTAIN * count)
    # Numbers of the processor, so that a seed gives the same points on all devices.
    candidates, others = (
        torch.rand(len(logits), n, 2).to(logits.device) for n in (OVERSAMPLING * count, count - uncertain)
    )
    return choose_points(logits, candidates, others, uncertain)


def point_losses(
    logits: Float[Tensor, "b c h w"], labels: Int[Tensor, "b H W"], points: Float[Tensor, "b p 2"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Compute cross-entropy and Dice loss at points, with logits and masks interpolated there.

    Args:
        logits: B C h w, aggregated, background first.
        labels: B H W, 0..C-1 or `VOID`, which counts for nothing; their size may differ from that of the logits.
        points: B P 2.

    Returns:
        mean cross-entropy of the points, and 1 - (2 Σ pm + 1) / (Σ p + Σ m + 1), mean over objects; both are means of
        the frames.

    Example:
        >>> point_losses(torch.zeros(1, 2, 4, 4), torch.ones(1, 8, 8, dtype=torch.int64), torch.full((1, 9, 2), 0.5))
        (tensor(0.6931), tensor(0.3103))
    """
    classes = torch.arange(logits.shape[1], device=labels.device).view(1, -1, 1, 1)
    known = torch.cat([labels.unsqueeze(1) == classes, labels.unsqueeze(1) == VOID], 1)
    sampled = sample(at_least_float32(logits), points)
    truth = sample(known.to(sampled.dtype), points)
    entropy = F.cross_entropy(sampled, truth[:, :-1], reduction="none").mean()
    predicted, masks = (sampled.softmax(1) * (1 - truth[:, -1:]))[:, 1:], truth[:, 1:-1]
    overlap, areas = (predicted * masks).sum(2), predicted.sum(2) + masks.sum(2)
    return entropy, (1 - (2 * overlap + 1) / (areas + 1)).mean()
