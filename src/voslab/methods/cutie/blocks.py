"""Blocks of Cutie: residual blocks with channel attention, and fusions of the features of a frame and its objects."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.blocks import add_shared


class ChannelAttentionBlock(nn.Module):
    """x + w · conv2(relu(conv1(relu(x)))), with a weight w per channel (efficient channel attention, Wang et al. 2020).

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        kernel = int((math.log2(channels) + 1) // 2) | 1
        self.attention = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Map N C h w to N C h w."""
        out: Tensor = self.conv2(F.relu(self.conv1(F.relu(x)), inplace=True))
        weight: Tensor = self.attention(out.mean((2, 3)).unsqueeze(1))
        return torch.addcmul(x, out, weight.sigmoid().view(*out.shape[:2], 1, 1))


class ObjectFusion(nn.Module):
    """Adds the feature of a frame to those of its objects, and refines the sum by two `ChannelAttentionBlock`s.

    Args:
        channels: channels of both features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.image = nn.Conv2d(channels, channels, 1)
        self.object = nn.Conv2d(channels, channels, 1)
        self.block1 = ChannelAttentionBlock(channels)
        self.block2 = ChannelAttentionBlock(channels)

    def forward_shared(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Project the feature of a frame: B C h w -> B C h w."""
        return self.image(x)  # type: ignore[no-any-return]

    def forward(self, x: Float[Tensor, "n c h w"], shared: Float[Tensor, "b c h w"]) -> Float[Tensor, "n c h w"]:
        """Map N C h w, and the output of `forward_shared`, to N C h w."""
        return self.block2(self.block1(add_shared(self.object(x), shared)))  # type: ignore[no-any-return]


class PixelFuser(nn.Module):
    """Fuses pixel readouts with the sensory memory, the previous masks and the pixel feature of the frame.

    Args:
        channels: channels C of readouts and pixel features.
        sensory_channels: channels of the sensory memory.
    """

    def __init__(self, channels: int, sensory_channels: int) -> None:
        super().__init__()
        self.compress = nn.Conv2d(sensory_channels + 2, channels, 1)
        self.fuser = ObjectFusion(channels)

    def forward(self, readout: Tensor, sensory: Tensor, masks: Tensor, shared: Tensor) -> tuple[Tensor]:
        """Fuse readouts N C h w, sensory memory N Cs h w, masks N 2 h w and the projected pixel feature B C h w."""
        x = readout + self.compress(torch.cat([sensory.to(readout.dtype), masks.to(readout.dtype)], 1))
        return (self.fuser(x, shared),)
