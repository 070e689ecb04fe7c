"""SwiftNet's own parts: the light aggregation encoder, and what stands between memory and decoder.

Shapes: B frames, N = B O object probs, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.blocks import SharedConv2d, per_object
from voslab.nn.resnet import Pyramid

STRIDE = 16


class LightAggregationEncoder(nn.Module):
    """Masks join the features that the frame has already; the encoder does not run again (light aggregation encoder).

    Args:
        stem: channels of the frame's feature at stride 2.
        f4, f8, f16: at strides 4, 8 and 16.
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
        # What is remembered begins as the frame's own features, and the masks in channels set aside for them.
        for conv in (self.conv1, self.conv2):
            nn.init.dirac_(conv.weight)
        with torch.no_grad():
            self.fuse16.weight *= 0.1
            self.deep.weight *= 0.1
            for mask, channels in enumerate(self.reserved(f16)):
                self.deep.weight[channels, mask * STRIDE**2 : (mask + 1) * STRIDE**2, 1, 1] += 2 / STRIDE**2

    @staticmethod
    def reserved(f16: int) -> tuple[slice, slice]:
        """Channels in which the mask and that of the others begin: an eighth of the features each."""
        return slice(-(f16 // 8), None), slice(-(f16 // 4), -(f16 // 8))

    def forward(self, c1: Tensor, features: Pyramid, masks: Tensor) -> Tensor:
        """Features of the frame, c1 (after its ReLU) B stem H/2 W/2; masks and others N 2 H W -> N f16 H/16 W/16."""
        x = F.relu(per_object(self.stem(masks), c1))
        x = F.relu(per_object(self.fuse4(x), features.f4))
        x = F.relu(per_object(self.fuse8(x), features.f8))
        # Space to depth: no pixel of the masks is lost on the way to stride 16.
        deep = self.deep(F.pixel_unshuffle(masks, STRIDE))
        x = F.relu(per_object(self.fuse16(x) + deep, features.f16))
        return F.relu(self.conv2(F.relu(self.conv1(x))))


class ASPP(nn.Module):
    """Atrous spatial pyramid over channels [own, shared]: 1x1, and 3x3 with dilations 2, 4 and 8."""

    def __init__(self, own: int, shared: int, width: int, dropout: float = 0.5) -> None:
        super().__init__()
        plain = SharedConv2d(own, shared, width, 1, bias=False)
        atrous = [SharedConv2d(own, shared, width, 3, dilation, bias=False) for dilation in (2, 4, 8)]
        self.branches = nn.ModuleList([plain, *atrous])
        self.join = nn.Conv2d(4 * width, width, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        # Two layers without normalisation: they begin so that a readout leaves them as strong as it came.
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def share(self, value: Tensor) -> list[Tensor]:
        """The frame's share: B shared h w -> four of B width h w."""
        return [branch.share(value) for branch in self.branches if isinstance(branch, SharedConv2d)]

    def forward(self, own: Tensor, share: list[Tensor]) -> Tensor:
        """N own h w, and what `share` gave -> N width h w."""
        parts = [F.relu(branch(own, part)) for branch, part in zip(self.branches, share, strict=True)]
        return self.dropout(F.relu(self.join(torch.cat(parts, 1))))  # type: ignore[no-any-return]
