"""Decoders of STM and STCN: two refinement modules from stride 16 to 4, the frame's part of each computed once."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.blocks import ResBlock, SharedConv2d, SharedResBlock
from voslab.nn.blocks import per_object as add
from voslab.nn.resnet import Pyramid


class DecoderShare(NamedTuple):
    """A frame's part: at stride 16 (None where nothing is shared there), 8 and 4, each B width h w."""

    f16: Tensor | None
    f8: Tensor
    f4: Tensor


class STCNShare(NamedTuple):
    """A frame's part: at stride 16 (`SharedResBlock.share`), 8 (B 2*width h w) and 4 (B width h w)."""

    f16: tuple[Tensor, Tensor]
    f8: Tensor
    f4: Tensor


class Refine(nn.Module):
    """Refinement module: a skip connection joins what comes from below, at twice its size.

    Args:
        skip: channels of the frame's feature.
        width: of what comes from below.
        outputs: `width` where not given.
        skip_block: whether the skip connection has a `ResBlock` behind its convolution.
        rectified: see `ResBlock`.
    """

    def __init__(
        self, skip: int, width: int, outputs: int | None = None, skip_block: bool = True, rectified: bool = False
    ) -> None:
        super().__init__()
        self.skip = nn.Conv2d(skip, width, 3, padding=1)
        self.skip_block = ResBlock(width, width, rectified=rectified) if skip_block else nn.Identity()
        self.block = ResBlock(width, outputs or width, rectified=rectified)

    def share(self, skip: Tensor) -> Tensor:
        """The frame's part, B width h w."""
        return self.skip_block(self.skip(skip))  # type: ignore[no-any-return]

    def forward(self, x: Tensor, share: Tensor) -> Tensor:
        """N width h/2 w/2 -> N outputs h w."""
        return self.block(add(upsample(x, 2), share))  # type: ignore[no-any-return]


class STMDecoder(nn.Module):
    """Readout to log-odds.

    Args:
        own: channels at stride 16 that belong to an object (its readout).
        shared: channels at stride 16 that belong to the frame (its value).
        f8: channels of the frame's feature at stride 8.
        f4: at stride 4.
        width: of the decoder; 256 as published.
        rectified: see `ResBlock`.
    """

    def __init__(self, own: int, shared: int, f8: int, f4: int, width: int = 256, rectified: bool = False) -> None:
        super().__init__()
        self.conv = SharedConv2d(own, shared, width)
        self.block = ResBlock(width, width, rectified=rectified)
        self.refine8 = Refine(f8, width, rectified=rectified)
        self.refine4 = Refine(f4, width, rectified=rectified)
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


class STCNDecoder(nn.Module):
    """Readout to log-odds: a residual block joins readout and frame, the width halves on the way up, one output.

    Args:
        own: channels at stride 16 that belong to an object (its readout).
        shared: channels at stride 16 that belong to the frame.
        f8: channels of the frame's feature at stride 8.
        f4: at stride 4.
        width: at stride 4, twice as much below; 256 as published.
        skip_block: see `Refine`: False in STCN, True in MiVOS.
    """

    def __init__(self, own: int, shared: int, f8: int, f4: int, width: int = 256, skip_block: bool = False) -> None:
        super().__init__()
        self.compress = SharedResBlock(own, shared, 2 * width)
        self.refine8 = Refine(f8, 2 * width, width, skip_block)
        self.refine4 = Refine(f4, width, width, skip_block)
        self.predict = nn.Conv2d(width, 1, 3, padding=1)

    def share(self, value: Tensor, features: Pyramid) -> STCNShare:
        """What a frame's objects have in common, from its value B shared h w and its features."""
        return STCNShare(self.compress.share(value), self.refine8.share(features.f8), self.refine4.share(features.f4))

    def forward(self, own: Tensor, share: STCNShare) -> Tensor:
        """N own h w -> log-odds of object against background, N 1 H W."""
        x = self.compress(own, share.f16)
        x = self.refine4(self.refine8(x, share.f8), share.f4)
        return upsample(self.predict(F.relu(x)), 4)


def upsample(x: Tensor, factor: int) -> Tensor:
    """Bilinear, pixel centres aligned as areas."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
