"""MEM, the mask embedding module (section 3.4, Eq. 8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.export_compat import coord_range


class MEM(nn.Module):
    """Embeds past masks and coordinates: four 7x7 convolutions of stride 2, from full resolution to stride 16.

    The convolution's channels are background and object probability of each past mask, newest first, then row, column
    and distance from the centre. Background is 1 - object, so one channel per mask is enough. The contribution of the
    coordinates and of that 1 depends on the size only and is computed once for all objects.

    Args:
        history: number of past masks; 3 in the paper.
        coordinates: whether there are coordinate maps.
        channels: channels of the embedding; 256 in BMVOS, which published this module.
    """

    def __init__(self, history: int = 3, coordinates: bool = True, channels: int = 256) -> None:
        super().__init__()
        if history < 1:
            raise ValueError(f"history={history} must be at least 1")
        self.history = history
        self.conv1 = _convolution(2 * history + 3 * coordinates, channels // 8)
        self.conv2 = _convolution(channels // 8, channels // 4)
        self.conv3 = _convolution(channels // 4, channels // 2)
        self.conv4 = _convolution(channels // 2, channels)

    def forward(self, past: Tensor) -> Tensor:
        """Embed past masks N history H W, newest first, to N channels H/16 W/16."""
        weight = self.conv1.weight
        background, objects = (weight[:, start : 2 * self.history : 2] for start in (0, 1))
        common = torch.cat([background.sum(1, keepdim=True), weight[:, 2 * self.history :]], 1)
        shared = F.conv2d(_common(past, common.shape[1]), common, self.conv1.bias, 2, 3)
        x = F.conv2d(past, objects - background, None, 2, 3) + shared
        for conv in (self.conv2, self.conv3, self.conv4):
            x = conv(F.relu(x))
        return x


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    made = nn.Conv2d(inputs, outputs, 7, 2, 3)
    nn.init.kaiming_uniform_(made.weight)
    assert made.bias is not None
    nn.init.zeros_(made.bias)
    return made


def _common(like: Tensor, channels: int) -> Tensor:
    """Return ones and, if channels > 1, row and column in [-1, 1] and radius in [0, √2]: 1 C H W."""
    height, width = like.shape[-2:]
    ones = like.new_ones(1, 1, height, width)
    if channels == 1:
        return ones
    row = coord_range(height, like.device).view(1, 1, height, 1).expand_as(ones)
    column = coord_range(width, like.device).expand_as(ones)
    return torch.cat([ones, row, column, (row**2 + column**2).sqrt()], 1).to(like.dtype)
