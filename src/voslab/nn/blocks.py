"""Blocks of the matching networks.

Shapes: B frames, N = B O object probs (B-major), C channels. What depends on the frame alone is computed once and
added to every object: a convolution over [own, shared] channels is the sum of one over each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.export_compat import in_parts


def per_object(own: Tensor, share: Tensor) -> Tensor:
    """Add a frame's share B C h w to each of its objects' N C h w, in place: pass on what nobody else needs."""
    torch.unflatten(own, 0, (share.shape[0], -1)).add_(share.unsqueeze(1))
    return own


def repeated(share: Tensor, times: int) -> Tensor:
    """A frame's share B C h w, once for each of its objects: N C h w."""
    return share.unsqueeze(1).expand(-1, times, -1, -1, -1).flatten(0, 1)


def flatten_hw(x: Tensor) -> Tensor:
    """N C h w -> N hw C, positions row-major."""
    return x.flatten(2).transpose(1, 2)


def unflatten_hw(readout: Tensor, like: Tensor) -> Tensor:
    """Rows B O hw C -> B O C h w, on the grid of `like`, … h w."""
    cells: Tensor = torch.unflatten(readout.transpose(2, 3), 3, like.shape[-2:])
    return cells


def in_chunks(function: Callable[[Tensor], Tensor], objects: Tensor, size: int) -> Tensor:
    """Apply a function of probs N … to B O …, `size` objects at a time: it bounds memory and changes nothing else."""
    parts = [
        torch.unflatten(function(part.flatten(0, 1)), 0, part.shape[:2]) for part in in_parts(objects, 1, lambda: size)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


class SharedConv2d(nn.Conv2d):
    """A convolution, stride 1, same size, over channels [own, shared]; `shared` may be 0."""

    def __init__(
        self, own: int, shared: int, outputs: int, kernel: int = 3, dilation: int = 1, bias: bool = True
    ) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(own + shared, outputs, kernel, padding=padding, dilation=dilation, bias=bias)
        self.own = own

    def share(self, x: Tensor) -> Tensor:
        """The frame's share, bias included: B shared h w -> B outputs h w."""
        return F.conv2d(x, self.weight[:, self.own :], self.bias, 1, self.padding, self.dilation)

    def forward(self, own: Tensor, share: Tensor | None = None) -> Tensor:
        """N own h w, and what `share` gave -> N outputs h w."""
        if share is None:
            return super().forward(own)
        return per_object(F.conv2d(own, self.weight[:, : self.own], None, 1, self.padding, self.dilation), share)


class ResBlock(nn.Module):
    """x + conv2(relu(conv1(relu(x)))), without normalisation; a convolution in the skip where channels change.

    `rectified=True` takes relu(x) for x also in the skip, as an in-place ReLU does.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, rectified: bool = False) -> None:
        super().__init__()
        self.rectified = rectified
        same = inputs == outputs
        self.downsample = None if same else nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.conv1 = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """N inputs h w -> N outputs h w."""
        rectified = F.relu(x)
        out: Tensor = self.conv2(F.relu(self.conv1(rectified), inplace=True))
        x = rectified if self.rectified else x
        return out.add_(x if self.downsample is None else self.downsample(x))


class SharedResBlock(nn.Module):
    """`ResBlock` over channels [own, shared]."""

    def __init__(self, own: int, shared: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.downsample = SharedConv2d(own, shared, outputs, kernel)
        self.conv1 = SharedConv2d(own, shared, outputs, kernel)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel, padding=kernel // 2)

    def share(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frame's share: B shared h w -> two of B outputs h w."""
        return self.conv1.share(F.relu(x)), self.downsample.share(x)

    def forward(self, own: Tensor, share: tuple[Tensor, Tensor]) -> Tensor:
        """N own h w, and what `share` gave -> N outputs h w."""
        out: Tensor = self.conv2(F.relu(self.conv1(F.relu(own), share[0]), inplace=True))
        return out.add_(self.downsample(own, share[1]))


class CBAM(nn.Module):
    """Channel, then spatial attention (Woo et al. 2018), without batch norm."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.channel = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """N C h w -> N C h w."""
        scale = self.channel(x.mean((2, 3))) + self.channel(x.amax((2, 3)))
        x = x * scale.sigmoid()[:, :, None, None]
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return x * self.spatial(pooled).sigmoid()  # type: ignore[no-any-return]


class FeatureFusion(nn.Module):
    """An object's mask feature and its frame's feature become one value (STCN's fuser; `kernel=1` is a light one)."""

    def __init__(self, own: int, shared: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.block1 = SharedResBlock(own, shared, outputs, kernel)
        self.attention = CBAM(outputs)
        self.block2 = ResBlock(outputs, outputs, kernel)

    def share(self, f16: Tensor) -> tuple[Tensor, Tensor]:
        """The frame's share: B shared h w -> two of B outputs h w."""
        return self.block1.share(f16)

    def forward(self, own: Tensor, share: tuple[Tensor, Tensor]) -> Tensor:
        """N own h w, and what `share` gave -> N outputs h w."""
        x = self.block1(own, share)
        return self.block2(x + self.attention(x))  # type: ignore[no-any-return]
