"""Building blocks of the matching networks.

Shapes: B frames, N = B O objects (B-major), C channels. Features of a frame are shared by its objects. A convolution
over [object, shared] channels is the sum of one convolution over each, so the shared one is computed once per frame.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.export_compat import split_unless_exporting


def add_shared(x: Float[Tensor, "n c h w"], shared: Float[Tensor, "b c h w"]) -> Float[Tensor, "n c h w"]:
    """Add the features of a frame to those of each of its objects, in place.

    Args:
        x: N C h w, per object; overwritten.
        shared: B C h w, per frame.

    Returns:
        `x`.

    Example:
        >>> add_shared(torch.zeros(6, 1, 1, 1), torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)).flatten()
        tensor([1., 1., 1., 2., 2., 2.])
    """
    torch.unflatten(x, 0, (shared.shape[0], -1)).add_(shared.unsqueeze(1))
    return x


def expand_shared(shared: Float[Tensor, "b c h w"], objects: int) -> Float[Tensor, "n c h w"]:
    """Repeat the features of each frame for each of its objects.

    Args:
        shared: B C h w, per frame.
        objects: O.

    Returns:
        N C h w with N = B O.

    Example:
        >>> expand_shared(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1), 2).flatten()
        tensor([1., 1., 2., 2.])
    """
    return shared.unsqueeze(1).expand(-1, objects, -1, -1, -1).flatten(0, 1)


def flatten_hw(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n hw c"]:
    """Flatten a feature map to positions in row-major order.

    Args:
        x: N C h w.

    Returns:
        N hw C.

    Example:
        >>> flatten_hw(torch.zeros(2, 8, 3, 4)).shape
        torch.Size([2, 12, 8])
    """
    return x.flatten(2).transpose(1, 2)


def unflatten_hw(x: Float[Tensor, "b o hw c"], like: Float[Tensor, "... h w"]) -> Float[Tensor, "b o c h w"]:
    """Restore feature maps from positions in row-major order.

    Args:
        x: B O hw C.
        like: any tensor whose last two dimensions are h and w.

    Returns:
        B O C h w.

    Example:
        >>> unflatten_hw(torch.zeros(2, 1, 12, 8), torch.zeros(3, 4)).shape
        torch.Size([2, 1, 8, 3, 4])
    """
    unflattened: Tensor = torch.unflatten(x.transpose(2, 3), 3, like.shape[-2:])
    return unflattened


def in_chunks(function: Callable[[Tensor], Tensor], objects: Tensor, size: int) -> Tensor:
    """Apply a function to the objects in chunks, which bounds its memory.

    Args:
        function: maps N … to N …, independently for each of the N.
        objects: B O ….
        size: objects per chunk.

    Returns:
        B O ….

    Example:
        >>> in_chunks(lambda x: 2 * x, torch.arange(4).view(1, 4, 1), size=3).flatten()
        tensor([0, 2, 4, 6])
    """
    parts = [
        torch.unflatten(function(part.flatten(0, 1)), 0, part.shape[:2])
        for part in split_unless_exporting(objects, 1, lambda: size)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def map_chunks(
    function: Callable[..., tuple[Tensor, ...]], objects: tuple[Tensor, ...], size: int
) -> tuple[Tensor, ...]:
    """Apply a function of several tensors to the objects in chunks; see `in_chunks`.

    Args:
        function: maps tensors N … to several tensors N ….
        objects: tensors B O ….
        size: objects per chunk.

    Returns:
        tensors B O ….

    Example:
        >>> total, _ = map_chunks(lambda x, y: (x + y, x), (torch.arange(4).view(1, 4), torch.ones(1, 4)), size=3)
        >>> total
        tensor([[1., 2., 3., 4.]])
    """
    chunks = zip(*(split_unless_exporting(each, 1, lambda: size) for each in objects), strict=True)
    parts = [
        [torch.unflatten(x, 0, chunk[0].shape[:2]) for x in function(*(each.flatten(0, 1) for each in chunk))]
        for chunk in chunks
    ]
    return tuple(outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1) for outputs in zip(*parts, strict=True))


class SharedConv2d(nn.Conv2d):
    """A convolution of stride 1 and same size over channels [object, shared].

    Args:
        object_channels: input channels per object.
        shared_channels: input channels per frame; may be 0.
        outputs: output channels.
        kernel: kernel size, odd.
        dilation: dilation.
        bias: whether there is a bias; it belongs to the shared part.

    Example:
        >>> conv = SharedConv2d(4, 3, 5)
        >>> conv(torch.randn(6, 4, 8, 8), conv.forward_shared(torch.randn(2, 3, 8, 8))).shape
        torch.Size([6, 5, 8, 8])
    """

    def __init__(
        self,
        object_channels: int,
        shared_channels: int,
        outputs: int,
        kernel: int = 3,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        padding = dilation * (kernel // 2)
        inputs = object_channels + shared_channels
        super().__init__(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=bias)
        self.object_channels = object_channels

    def forward_shared(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Convolve the shared channels of a frame and add the bias: B shared h w -> B outputs h w."""
        return F.conv2d(x, self.weight[:, self.object_channels :], self.bias, 1, self.padding, self.dilation)

    def forward(
        self, x: Float[Tensor, "n c h w"], shared: Float[Tensor, "b k h w"] | None = None
    ) -> Float[Tensor, "n k h w"]:
        """Convolve the channels of each object and add the shared part.

        Args:
            x: N object_channels h w.
            shared: B outputs h w, the output of `forward_shared`; None if there are no shared channels.

        Returns:
            N outputs h w.
        """
        if shared is None:
            return super().forward(x)
        weight = self.weight[:, : self.object_channels]
        return add_shared(F.conv2d(x, weight, None, 1, self.padding, self.dilation), shared)


class ResBlock(nn.Module):
    """x + conv2(relu(conv1(relu(x)))), without normalisation; a convolution in the skip if the channels change.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: kernel size, odd.
        rectified: apply the ReLU to the skip connection too, as an in-place ReLU does.
        skip_kernel: kernel size of the skip connection, odd; None: `kernel`.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, rectified: bool = False, skip_kernel: int | None = None
    ) -> None:
        super().__init__()
        self.rectified = rectified
        same, skip = inputs == outputs, skip_kernel or kernel
        self.downsample = None if same else nn.Conv2d(inputs, outputs, skip, padding=skip // 2)
        self.conv1 = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel, padding=kernel // 2)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k h w"]:
        """Map N inputs h w to N outputs h w."""
        rectified = F.relu(x)
        out: Tensor = self.conv2(F.relu(self.conv1(rectified), inplace=True))
        x = rectified if self.rectified else x
        return out.add_(x if self.downsample is None else self.downsample(x))


class SharedResBlock(nn.Module):
    """`ResBlock` over channels [object, shared].

    Args:
        object_channels: input channels per object.
        shared_channels: input channels per frame.
        outputs: output channels.
        kernel: kernel size, odd.
    """

    def __init__(self, object_channels: int, shared_channels: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.downsample = SharedConv2d(object_channels, shared_channels, outputs, kernel)
        self.conv1 = SharedConv2d(object_channels, shared_channels, outputs, kernel)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel, padding=kernel // 2)

    def forward_shared(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b k h w"]]:
        """Compute the shared parts of both convolutions: B shared h w -> two of B outputs h w."""
        return self.conv1.forward_shared(F.relu(x)), self.downsample.forward_shared(x)

    def forward(
        self, x: Float[Tensor, "n c h w"], shared: tuple[Float[Tensor, "b k h w"], Float[Tensor, "b k h w"]]
    ) -> Float[Tensor, "n k h w"]:
        """Map N object_channels h w, and the output of `forward_shared`, to N outputs h w."""
        out: Tensor = self.conv2(F.relu(self.conv1(F.relu(x), shared[0]), inplace=True))
        return out.add_(self.downsample(x, shared[1]))


class CBAM(nn.Module):
    """Channel attention, then spatial attention (Woo et al. 2018), without batch norm.

    Args:
        channels: C.
        reduction: factor by which the hidden layer of the channel attention is smaller.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.channel = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Weight the features N C h w by channel and by position."""
        scale = self.channel(x.mean((2, 3))) + self.channel(x.amax((2, 3)))
        x = x * scale.sigmoid()[:, :, None, None]
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1)
        return x * self.spatial(pooled).sigmoid()  # type: ignore[no-any-return]


class FeatureFusion(nn.Module):
    """Fuses the mask features of an object and the features of its frame to one value (STCN's fuser).

    Args:
        object_channels: input channels per object.
        shared_channels: input channels per frame.
        outputs: output channels.
        kernel: kernel size of the residual blocks; 1 is a light fuser.
    """

    def __init__(self, object_channels: int, shared_channels: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.block1 = SharedResBlock(object_channels, shared_channels, outputs, kernel)
        self.attention = CBAM(outputs)
        self.block2 = ResBlock(outputs, outputs, kernel)

    def forward_shared(
        self, f16: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b k h w"]]:
        """Compute the shared part: B shared h w -> two of B outputs h w."""
        return self.block1.forward_shared(f16)

    def forward(
        self, x: Float[Tensor, "n c h w"], shared: tuple[Float[Tensor, "b k h w"], Float[Tensor, "b k h w"]]
    ) -> Float[Tensor, "n k h w"]:
        """Map N object_channels h w, and the output of `forward_shared`, to N outputs h w."""
        x = self.block1(x, shared)
        return self.block2(x + self.attention(x))  # type: ignore[no-any-return]
