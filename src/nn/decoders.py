"""STM's decoder: two refinement modules from stride 16 to 4, the frame's part of each computed once for all objects."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from src.nn.blocks import ResBlock, SharedConv2d
from src.nn.blocks import per_object as add
from src.nn.resnet import Pyramid


class DecoderShare(NamedTuple):
    """A frame's part: at stride 16 (None where nothing is shared there), 8 and 4, each B width h w."""

    f16: Tensor | None
    f8: Tensor
    f4: Tensor


class Refine(nn.Module):
    """Refinement module: a skip connection joins what comes from below, at twice its size."""

    def __init__(self, skip: int, width: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(skip, width, 3, padding=1)
        self.skip_block = ResBlock(width, width)
        self.block = ResBlock(width, width)

    def share(self, skip: Tensor) -> Tensor:
        """The frame's part, B width h w."""
        return self.skip_block(self.skip(skip))  # type: ignore[no-any-return]

    def forward(self, x: Tensor, share: Tensor) -> Tensor:
        """N width h/2 w/2 -> N width h w."""
        return self.block(add(upsample(x, 2), share))  # type: ignore[no-any-return]


class STMDecoder(nn.Module):
    """Readout to log-odds.

    Args:
        own: channels at stride 16 that belong to an object (its readout).
        shared: channels at stride 16 that belong to the frame (its value).
        f8: channels of the frame's feature at stride 8.
        f4: at stride 4.
        width: of the decoder; 256 as published.
    """

    def __init__(self, own: int, shared: int, f8: int, f4: int, width: int = 256) -> None:
        super().__init__()
        self.conv = SharedConv2d(own, shared, width)
        self.block = ResBlock(width, width)
        self.refine8 = Refine(f8, width)
        self.refine4 = Refine(f4, width)
        self.predict = nn.Conv2d(width, 2, 3, padding=1)

    def share(self, value: Tensor | None, features: Pyramid) -> DecoderShare:
        """What a frame's objects have in common, from its value B shared h w and its features."""
        f16 = None if value is None else self.conv.share(value)
        return DecoderShare(f16, self.refine8.share(features.f8), self.refine4.share(features.f4))

    def forward(self, own: Tensor, share: DecoderShare) -> Tensor:
        """N own h w -> log-odds of object against background, N 1 H W."""
        x = self.block(self.conv(own, share.f16))
        x = self.refine4(self.refine8(x, share.f8), share.f4)
        scores = self.predict(F.relu(x))
        # Interpolation is linear: one difference instead of two scores.
        return upsample(scores[:, 1:] - scores[:, :1], 4)


def upsample(x: Tensor, factor: int) -> Tensor:
    """Bilinear, pixel centres aligned as areas."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
