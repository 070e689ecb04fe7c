"""ResNet-18 to -152 (He et al. 2016) with torchvision's key names, so that its weight files load.

The stride of a bottleneck sits in its 3x3 convolution. `dilated=True` keeps layer4 at stride 16, as CRVOS does;
`layers=3` leaves it out, as all matching methods do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from voslab.nn.backbone import Backbone, Norm


class BasicBlock(nn.Module):
    """Two 3x3 convolutions (ResNet-18, -34)."""

    expansion = 1

    def __init__(
        self, inputs: int, width: int, norm: Callable[[int], nn.Module], stride: int, dilation: int, bias: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, dilation, dilation, bias=bias)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=bias)
        self.bn2 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, width, norm, stride, bias)

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B width H/stride W/stride."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out.add_(x if self.downsample is None else self.downsample(x)))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions (ResNet-50 and deeper)."""

    expansion = 4

    def __init__(
        self, inputs: int, width: int, norm: Callable[[int], nn.Module], stride: int, dilation: int, bias: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=bias)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=bias)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, width * 4, 1, bias=bias)
        self.bn3 = norm(width * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, width * 4, norm, stride, bias)

    def forward(self, x: Tensor) -> Tensor:
        """B C H W -> B 4*width H/stride W/stride."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out.add_(x if self.downsample is None else self.downsample(x)))  # type: ignore[no-any-return]


DEPTHS: dict[str, tuple[type[BasicBlock | Bottleneck], tuple[int, int, int, int]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(Backbone):
    """The convolutional part of a ResNet.

    Args:
        name: one of `DEPTHS`.
        norm: `batch`, or `group` for training from random initialisation, where batches are small.
        width: channels of the 3x3 convolutions of layer1; 64 as published.
        dilated: layer4 at stride 16: its first block without stride or dilation, the others with dilation 2.
        layers: number of layers, 1 to 4.
        bias: whether convolutions have a bias, initialised to zero; torchvision's weights have none.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> import torch
        >>> [tuple(x.shape[1:]) for x in ResNet("resnet18", layers=3)(torch.zeros(1, 3, 32, 32))]
        [(64, 8, 8), (128, 4, 4), (256, 2, 2)]
    """

    def __init__(
        self,
        name: str,
        norm: Norm = "batch",
        width: int = 64,
        dilated: bool = False,
        layers: int = 4,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if name not in DEPTHS:
            raise ValueError(f"unknown backbone '{name}', choose from {', '.join(DEPTHS)}")
        block, counts = DEPTHS[name]
        self.channels = tuple(width * 2**i * block.expansion for i in range(layers))
        make_norm = nn.BatchNorm2d if norm == "batch" else partial(nn.GroupNorm, min(32, width // 4))
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=bias)
        self.bn1 = make_norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = width
        for i, count in enumerate(counts[:layers]):
            last = dilated and i == 3
            stride = 1 if i == 0 or last else 2
            blocks: list[nn.Module] = []
            for j in range(count):
                dilation = 2 if last and j > 0 else 1
                blocks.append(block(inputs, width * 2**i, make_norm, stride if j == 0 else 1, dilation, bias))
                inputs = self.channels[i]
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def pool_stem(self, c1: Tensor) -> Tensor:
        """See `Backbone.pool_stem`."""
        pooled: Tensor = self.maxpool(c1)
        return pooled


def _shortcut(
    inputs: int, outputs: int, norm: Callable[[int], nn.Module], stride: int, bias: bool
) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=bias), norm(outputs))
