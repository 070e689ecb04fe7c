"""CAM, the channel-wise attention module (section 3.3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.precision import at_least_float32

CAMNorm = Literal["mean", "none"]


class CAM(nn.Module):
    """f + α f R' with R' = softmax of the channels' inner products (Eq. 4-7); α ≥ 0 is learned.

    Args:
        norm: `mean` divides the inner products by the number of positions, so that attention does not sharpen with
            resolution; `none` is Eq. 4 to the letter.
    """

    def __init__(self, norm: CAMNorm = "mean") -> None:
        super().__init__()
        if norm not in ("mean", "none"):
            raise ValueError(f"unknown cam_norm '{norm}'")
        self.norm = norm
        # softplus(-2.25) = 0.1: attention takes part from the start, and α never falls below 0.
        self.alpha = nn.Parameter(torch.tensor(-2.25))

    def forward(self, f: Tensor) -> Tensor:
        """N C h w -> N C h w. The inner products and their softmax are float32 also under autocast."""
        with torch.autocast(f.device.type, enabled=False):
            channels = at_least_float32(f).flatten(2)
            energy = channels @ channels.transpose(1, 2)
            if self.norm == "mean":
                energy = energy / channels.shape[2]
            # Eq. 5 normalises over i, the rows of R; Eq. 6 multiplies from the right.
            attended = energy.softmax(1).transpose(1, 2) @ channels
            out = channels + F.softplus(self.alpha) * attended
        return out.view(f.shape).to(f.dtype)
