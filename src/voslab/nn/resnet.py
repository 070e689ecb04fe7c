"""ResNet-18 to -152 (He et al. 2016) with torchvision's key names, so that its weight files load.

The stride of a bottleneck sits in its 3x3 convolution. `dilated=True` keeps layer4 at stride 16, as CRVOS does;
`layers=3` leaves it out, as all matching methods do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, Protocol

from torch import Tensor, nn

from voslab.core import Frame

Norm = Literal["batch", "group"]


class Pyramid(NamedTuple):
    """Features of a frame at strides 4, 8 and 16, each B C h w."""

    f4: Tensor
    f8: Tensor
    f16: Tensor


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


class ResNet(nn.Module):
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

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of all layers from a normalised image B 3 H W.

        Their strides are 4, 8, 16 and 32, or 16 for the last one if dilated.
        """
        return self.forward_stem(self.conv1(x))

    def stem_convolutions(self) -> tuple[nn.Conv2d, ...]:
        """Return the convolutions whose sum `bn1` normalises."""
        return (self.conv1,)

    def forward_stem(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of all layers from the output B width H/2 W/2 of the first convolution."""
        return self.forward_layers(self.relu(self.bn1(x)))

    def forward_layers(self, c1: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of all layers from the output B width H/2 W/2 of the first ReLU."""
        x = self.maxpool(c1)
        outputs = []
        for i in range(len(self.channels)):
            x = self.get_submodule(f"layer{i + 1}")(x)
            outputs.append(x)
        return tuple(outputs)


class HasEncoder(Protocol):
    """A network with an encoder of normalised frames."""

    encoder: ResNet
    normalise: nn.Module


def low_level_features(network: HasEncoder, frame: Frame) -> Tensor:
    """Compute `LowLevel.features`: the output of the first layer of a network's encoder.

    Args:
        network: a network with `encoder` and `normalise`.
        frame: its image is B 3 H W, in [0, 1].

    Returns:
        features B C H/4 W/4.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> network = SimpleNamespace(encoder=ResNet("resnet18", width=8).eval(), normalise=nn.Identity())
        >>> low_level_features(network, Frame(0, torch.zeros(1, 3, 32, 48))).shape
        torch.Size([1, 8, 8, 12])
    """
    encoder = network.encoder
    first = encoder.maxpool(encoder.relu(encoder.bn1(encoder.conv1(network.normalise(frame.image)))))
    features: Tensor = encoder.get_submodule("layer1")(first)
    return features


def _shortcut(
    inputs: int, outputs: int, norm: Callable[[int], nn.Module], stride: int, bias: bool
) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=bias), norm(outputs))
