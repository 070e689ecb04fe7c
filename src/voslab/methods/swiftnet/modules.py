"""SwiftNet's light aggregation encoder and ASPP.

Shapes: B frames, N = B O objects, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.backbone import Pyramid
from voslab.nn.blocks import SharedConv2d, add_shared

STRIDE = 16


class LightAggregationEncoder(nn.Module):
    """Adds masks to the features of a frame, without running the encoder again.

    Args:
        stem: channels of the frame's feature at stride 2.
        f4: channels at stride 4.
        f8: channels at stride 8.
        f16: channels at stride 16.
    """

    def __init__(self, stem: int, f4: int, f8: int, f16: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, stem, 7, 2, 3, bias=False)
        self.fuse4 = nn.Conv2d(stem, f4, 3, 2, 1, bias=False)
        self.fuse8 = nn.Conv2d(f4, f8, 3, 2, 1, bias=False)
        self.fuse16 = nn.Conv2d(f8, f16, 3, 2, 1, bias=False)
        self.deep = nn.Conv2d(2 * STRIDE**2, f16, 3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(f16, f16, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(f16, f16, 3, padding=1, bias=False)
        # The initial output is the frame's own features, with the masks in reserved channels.
        for conv in (self.conv1, self.conv2):
            nn.init.dirac_(conv.weight)
        with torch.no_grad():
            self.fuse16.weight *= 0.1
            self.deep.weight *= 0.1
            for mask, channels in enumerate(self.reserved(f16)):
                self.deep.weight[channels, mask * STRIDE**2 : (mask + 1) * STRIDE**2, 1, 1] += 2 / STRIDE**2

    @staticmethod
    def reserved(f16: int) -> tuple[slice, slice]:
        """Return the channels reserved for the mask and the other masks at initialisation: an eighth of f16 each."""
        return slice(-(f16 // 8), None), slice(-(f16 // 4), -(f16 // 8))

    def forward(self, c1: Tensor, features: Pyramid, masks: Tensor) -> Tensor:
        """Compute memory features.

        Args:
            c1: B stem H/2 W/2, output of the first ReLU.
            features: features of the frame.
            masks: N 2 H W, see `masks_with_others`.

        Returns:
            N f16 H/16 W/16.
        """
        x = F.relu(add_shared(self.stem(masks), c1))
        x = F.relu(add_shared(self.fuse4(x), features.f4))
        x = F.relu(add_shared(self.fuse8(x), features.f8))
        # Space to depth keeps every pixel of the masks at stride 16.
        deep = self.deep(F.pixel_unshuffle(masks, STRIDE))
        x = F.relu(add_shared(self.fuse16(x) + deep, features.f16))
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class ASPP(nn.Module):
    """Atrous spatial pyramid over channels [object, shared]: 1x1, and 3x3 with dilations 2, 4 and 8."""

    def __init__(self, object_channels: int, shared_channels: int, width: int, dropout: float = 0.5) -> None:
        super().__init__()
        plain = SharedConv2d(object_channels, shared_channels, width, 1, bias=False)
        atrous = [
            SharedConv2d(object_channels, shared_channels, width, 3, dilation, bias=False) for dilation in (2, 4, 8)
        ]
        self.branches = nn.ModuleList([plain, *atrous])
        self.join = nn.Conv2d(4 * width, width, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        # There is no normalisation: the initialisation preserves the scale of the readout.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward_shared(self, value: Tensor) -> list[Tensor]:
        """Compute the shared parts of all branches: B shared h w -> four of B width h w."""
        return [branch.forward_shared(value) for branch in self.branches if isinstance(branch, SharedConv2d)]

    def forward(self, x: Tensor, shared: list[Tensor]) -> Tensor:
        """Map N object_channels h w, and the output of `forward_shared`, to N width h w."""
        parts = [F.relu(branch(x, part)) for branch, part in zip(self.branches, shared, strict=True)]
        return self.dropout(F.relu(self.join(torch.cat(parts, 1))))  # type: ignore[no-any-return]
