"""Object summaries: what the queries of Cutie's object transformer remember of an object (section 3.3)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voslab.nn.blocks import flatten_hw
from voslab.nn.precision import at_least_float32

SCALE, TEMPERATURE = 32, 128


def position_code(like: Float[Tensor, "... c h w"]) -> Float[Tensor, "hw c"]:
    """Compute the sinusoidal code of each position of a feature map: half of the channels for x, half for y.

    Args:
        like: any tensor with the size of the map; C is a multiple of 4.

    Returns:
        hw C, float32; sine and cosine alternate.

    Example:
        >>> position_code(torch.zeros(4, 1, 2)).round(decimals=2)
        tensor([[0.0000, 1.0000, 0.0000, 1.0000],
                [0.5500, 0.8300, 0.0000, 1.0000]])
    """
    channels, rows, columns = like.shape[-3:]
    half = channels // 2
    frequency = TEMPERATURE ** -(torch.arange(0, half, 2, device=like.device) / half)

    def axis(count: int) -> Tensor:
        positions = torch.arange(count, device=like.device, dtype=torch.float32)
        angles = (positions * (SCALE / (count - 1 + 1e-6))).unsqueeze(1) * frequency
        return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)

    x = axis(columns).unsqueeze(0).expand(rows, -1, -1)
    y = axis(rows).unsqueeze(1).expand(-1, columns, -1)
    return torch.cat([x, y], 2).flatten(0, 1)


class ObjectSummariser(nn.Module):
    """Sums weighted features of an object, half of the summaries over its mask and half over the rest of the frame.

    Args:
        channels: channels C of values.
        summaries: number Q of summaries, even.
    """

    def __init__(self, channels: int, summaries: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, channels)
        self.feature = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.weight = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, summaries))

    def forward(self, value: Float[Tensor, "n c h w"], mask: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n q d"]:
        """Summarise the value of a frame.

        Args:
            value: N C h w.
            mask: N 1 h w, in [0, 1].

        Returns:
            float32 summaries N Q C+1: a weighted sum of features, and the sum of its weights.
        """
        projected = self.project(flatten_hw(value))
        with torch.autocast(value.device.type, enabled=False):
            x = at_least_float32(projected) + position_code(value).to(value.device)
            logits: Tensor = self.weight(x)
            inside = flatten_hw(at_least_float32(mask))
            half = logits.shape[2] // 2
            weight = logits.sigmoid() * torch.cat([inside.expand(-1, -1, half), 1 - inside.expand(-1, -1, half)], 2)
            sums = weight.transpose(1, 2) @ self.feature(x)
            return torch.cat([sums, weight.sum(1).unsqueeze(2)], 2)
