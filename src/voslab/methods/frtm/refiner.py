"""The refinement network (section 3.3): turns the target model's coarse scores into log-odds at the size of the image.

Shapes: B frames, O objects, N = B O. Levels go from stride 32 to stride 4; all have `width` channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.blocks import SharedConv2d, expand_shared


class SharedFeatures(NamedTuple):
    """What the objects of a frame share.

    Attributes:
        reduced: per level, the part of the frame in the first convolution that sees the scores, B width+1 h w.
        pooled: mean B width 1 1 of the deepest level's reduced features.
    """

    reduced: tuple[Tensor, ...]
    pooled: Tensor


class ScoreEncoder(nn.Module):
    """TSE: fuses a level's features, reduced to `width` channels, and the scores."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(inputs, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))
        self.fuse = SharedConv2d(1, width, width + 1)
        self.conv2 = nn.Conv2d(width + 1, width + 1, 3, padding=1)
        self.conv3 = nn.Conv2d(width + 1, width, 3, padding=1)

    def forward(self, scores: Float[Tensor, "n 1 h w"], shared: Float[Tensor, "b c h w"]) -> Float[Tensor, "n k h w"]:
        """Fuse scores of the level's size and the shared part."""
        x = F.relu(self.fuse(scores, shared))
        return F.relu(self.conv3(F.relu(self.conv2(x))))


class ResidualBlock(nn.Module):
    """RRB: a residual block with one batch norm, after a 1x1 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, width, 1)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """N width h w -> N width h w."""
        x = self.project(x)
        out: Tensor = self.conv2(F.relu(self.bn1(self.conv1(x))))
        return F.relu(out + x)


class ChannelAttention(nn.Module):
    """CAB: weights the channels of a level by the means of this and the deeper one, and adds the deeper one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))

    def forward(self, shallow: Float[Tensor, "n c h w"], deeper: Float[Tensor, "n c k l"]) -> Float[Tensor, "n c h w"]:
        """Merge N width h w and N width k l, which may be 1 x 1."""
        means = torch.cat([x.mean((2, 3), keepdim=True) for x in (shallow, deeper)], 1)
        weights: Tensor = self.weigh(means)
        return shallow * weights.sigmoid() + _resize(deeper, shallow.shape[-2:])


class Level(nn.Module):
    """One level of the refiner."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.encoder = ScoreEncoder(inputs, width)
        self.block1 = ResidualBlock(width)
        self.attention = ChannelAttention(width)
        self.block2 = ResidualBlock(width)

    def forward(self, scores: Tensor, shared: Tensor, deeper: Tensor) -> Tensor:
        """Compute the level's output N width h w from scores N 1 k l of any size and the deeper level's output."""
        encoded = self.encoder(_resize(scores, shared.shape[-2:]), shared)
        output: Tensor = self.block2(self.attention(self.block1(encoded), deeper))
        return output


class Refiner(nn.Module):
    """The refinement network.

    Args:
        features: channels of the frame's features at strides 4, 8, 16 and 32.
        width: channels inside; 64 as published.
    """

    def __init__(self, features: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Level(inputs, width) for inputs in reversed(features))
        self.conv1 = nn.Conv2d(width, width // 2, 3, padding=1)
        # Torch's own initialisation would shrink the scores in every layer.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.conv2 = nn.Conv2d(width // 2, 1, 3, padding=1)

    def forward_shared(self, features: Sequence[Tensor]) -> SharedFeatures:
        """Compute what the objects of a frame share, from features B C h w at strides 4 to 32."""
        encoders = [level.encoder for level in self.levels if isinstance(level, Level)]
        reduced = [encoder.reduce(x) for encoder, x in zip(encoders, reversed(features), strict=True)]
        parts = (encoder.fuse.forward_shared(x) for encoder, x in zip(encoders, reduced, strict=True))
        return SharedFeatures(tuple(parts), reduced[0].mean((2, 3), keepdim=True))

    def forward(
        self, scores: Float[Tensor, "n 1 h w"], shared: SharedFeatures, size: tuple[int, int]
    ) -> Float[Tensor, "n H W"]:
        """Refine the scores of all objects.

        Args:
            scores: N 1 h w, of the target models.
            shared: the output of `forward_shared`.
            size: H, W of the image.

        Returns:
            log-odds N H W.
        """
        x = expand_shared(shared.pooled, len(scores) // len(shared.pooled))
        for level, reduced in zip(self.levels, shared.reduced, strict=True):
            x = level(scores, reduced, x)
        x = _double(F.relu(self.conv1(_double(x))))
        log_odds: Tensor = self.conv2(_resize(x, size))
        return log_odds[:, 0]


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
