"""Convolutions of EfficientNets: padded as in TensorFlow, and fused with ReLU6."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SameConv2d(nn.Conv2d):
    """A convolution whose output has ceil(H / stride) rows, padded as TensorFlow's `same`.

    The padding is symmetric, unless the kernel is odd, the stride is 2 and the size is even: then the bottom and the
    right get one more than the top and the left. A zero row and column are put before the kernel in that case, because
    padding the input would copy it.

    Example:
        >>> import torch
        >>> conv = SameConv2d(1, 1, 3, stride=2)
        >>> conv(torch.zeros(1, 1, 6, 7)).shape
        torch.Size([1, 1, 3, 4])
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """B inputs H W -> B outputs ceil(H/stride) ceil(W/stride)."""
        return F.conv2d(x, self.kernel(x), self.bias, self.stride, self.padding, self.dilation, self.groups)

    def kernel(self, x: Tensor) -> Tensor:
        """Return the weight for an input of this size, with a zero row or column where it pads."""
        if self.stride[0] != 2:
            return self.weight
        rows, columns = (1 - size % 2 for size in x.shape[-2:])
        return F.pad(self.weight, (columns, 0, rows, 0))


class ConvReLU6(nn.Module):
    """A convolution and ReLU6, for inference: in float32 on a CPU both are one pass over memory.

    With one thread, torch computes a 1x1 convolution with a bias in three.

    Args:
        convolution: the convolution.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """B inputs H W -> B outputs H/stride W/stride."""
        one = self.convolution
        if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu") or not _fuses():
            return F.relu6(one(x), inplace=True)
        weight = one.kernel(x) if isinstance(one, SameConv2d) else one.weight
        shape = (one.padding, one.stride, one.dilation, one.groups)
        clamp = ("hardtanh", [0.0, 6.0], "")
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, one.bias, *shape, *clamp)
        return fused


@cache
def _fuses() -> bool:
    """Return whether torch was built with the fused operator."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return built and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
