"""Losses on aggregated logits of a clip."""

from __future__ import annotations

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
