"""Decoders of STM and STCN: two refinement modules from stride 16 to 4; shared parts are computed once per frame."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.backbone import Pyramid
from voslab.nn.blocks import ResBlock, SharedConv2d, SharedResBlock, add_shared


class STMSharedFeatures(NamedTuple):
    """Shared part of `STMDecoder`, each B width h w.

    Attributes:
        f16: at stride 16; None if no channels are shared there.
        f8: at stride 8.
        f4: at stride 4.
    """

    f16: Tensor | None
    f8: Tensor
    f4: Tensor


class STCNSharedFeatures(NamedTuple):
    """Shared part of `STCNDecoder` and of XMem's decoder.

    Attributes:
        f16: at stride 16, see `forward_shared` of `SharedResBlock` and `FeatureFusion`.
        f8: at stride 8, B 2*width h w.
        f4: at stride 4, B width h w.
    """

    f16: tuple[Tensor, Tensor]
    f8: Tensor
    f4: Tensor


class Refine(nn.Module):
    """Refinement module: upsamples by 2 and adds a skip connection.

    Args:
        skip: channels of the frame's feature.
        width: channels of the input.
        outputs: output channels; None: `width`.
        skip_block: whether a `ResBlock` follows the convolution of the skip connection.
        rectified: see `ResBlock`.
        skip_kernel: kernel size of all skip connections, odd.
    """

    def __init__(
        self,
        skip: int,
        width: int,
        outputs: int | None = None,
        skip_block: bool = True,
        rectified: bool = False,
        skip_kernel: int = 3,
    ) -> None:
        super().__init__()
        self.skip = nn.Conv2d(skip, width, skip_kernel, padding=skip_kernel // 2)
        self.skip_block = ResBlock(width, width, rectified=rectified) if skip_block else nn.Identity()
        self.block = ResBlock(width, outputs or width, rectified=rectified, skip_kernel=skip_kernel)

    def forward_shared(self, skip: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Compute the skip connection: B skip h w -> B width h w."""
        return self.skip_block(self.skip(skip))  # type: ignore[no-any-return]

    def forward(self, x: Float[Tensor, "n k h_2 w_2"], shared: Float[Tensor, "b k h w"]) -> Float[Tensor, "n l h w"]:
        """Map N width h/2 w/2, and the output of `forward_shared`, to N outputs h w."""
        return self.block(add_shared(upsample(x, 2), shared))  # type: ignore[no-any-return]


class STMDecoder(nn.Module):
    """Decodes readouts to log-odds (STM, section 3.3).

    Args:
        object_channels: channels per object at stride 16 (the readout).
        shared_channels: channels per frame at stride 16 (the value of the query frame); may be 0.
        f8: channels of the frame's feature at stride 8.
        f4: channels of the frame's feature at stride 4.
        width: channels of the decoder; 256 as published.
        rectified: see `ResBlock`.
    """

    def __init__(
        self, object_channels: int, shared_channels: int, f8: int, f4: int, width: int = 256, rectified: bool = False
    ) -> None:
        super().__init__()
        self.conv = SharedConv2d(object_channels, shared_channels, width)
        self.block = ResBlock(width, width, rectified=rectified)
        self.refine8 = Refine(f8, width, rectified=rectified)
        self.refine4 = Refine(f4, width, rectified=rectified)
        self.predict = nn.Conv2d(width, 2, 3, padding=1)

    def forward_shared(self, value: Float[Tensor, "b c h w"] | None, features: Pyramid) -> STMSharedFeatures:
        """Compute what the objects of a frame share.

        Args:
            value: B shared_channels h w; None if no channels are shared.
            features: features of the frame.

        Returns:
            the shared part, for `forward`.
        """
        f16 = None if value is None else self.conv.forward_shared(value)
        f8, f4 = self.refine8.forward_shared(features.f8), self.refine4.forward_shared(features.f4)
        return STMSharedFeatures(f16, f8, f4)

    def forward(self, x: Float[Tensor, "n c h w"], shared: STMSharedFeatures) -> Float[Tensor, "n 1 H W"]:
        """Decode N object_channels h w to log-odds of object against background, N 1 H W."""
        x = self.block(self.conv(x, shared.f16))
        x = self.refine4(self.refine8(x, shared.f8), shared.f4)
        scores = self.predict(F.relu(x))
        # Interpolation is linear: one difference instead of two scores.
        return upsample(scores[:, 1:] - scores[:, :1], 4)


class STCNDecoder(nn.Module):
    """Decodes readouts to log-odds: a residual block fuses readout and frame, and the width halves at stride 8.

    Args:
        object_channels: channels per object at stride 16 (the readout).
        shared_channels: channels per frame at stride 16.
        f8: channels of the frame's feature at stride 8.
        f4: channels of the frame's feature at stride 4.
        width: channels at stride 4, half of those at stride 16; 256 as published.
        skip_block: see `Refine`; False in STCN, True in MiVOS.
    """

    def __init__(
        self, object_channels: int, shared_channels: int, f8: int, f4: int, width: int = 256, skip_block: bool = False
    ) -> None:
        super().__init__()
        self.compress = SharedResBlock(object_channels, shared_channels, 2 * width)
        self.refine8 = Refine(f8, 2 * width, width, skip_block)
        self.refine4 = Refine(f4, width, width, skip_block)
        self.predict = nn.Conv2d(width, 1, 3, padding=1)

    def forward_shared(self, value: Float[Tensor, "b c h w"], features: Pyramid) -> STCNSharedFeatures:
        """Compute what the objects of a frame share.

        Args:
            value: B shared_channels h w.
            features: features of the frame.

        Returns:
            the shared part, for `forward`.
        """
        f16 = self.compress.forward_shared(value)
        f8, f4 = self.refine8.forward_shared(features.f8), self.refine4.forward_shared(features.f4)
        return STCNSharedFeatures(f16, f8, f4)

    def forward(self, x: Float[Tensor, "n c h w"], shared: STCNSharedFeatures) -> Float[Tensor, "n 1 H W"]:
        """Decode N object_channels h w to log-odds of object against background, N 1 H W."""
        x = self.compress(x, shared.f16)
        x = self.refine4(self.refine8(x, shared.f8), shared.f4)
        return upsample(self.predict(F.relu(x)), 4)


def upsample(x: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "n c H W"]:
    """Upsample bilinearly without aligned corners.

    Args:
        x: N C h w.
        factor: scale of height and width.

    Returns:
        N C factor*h factor*w.

    Example:
        >>> import torch
        >>> upsample(torch.zeros(1, 1, 3, 4), 4).shape
        torch.Size([1, 1, 12, 16])
    """
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
