"""The interface that frame encoders share: a stem, and layers at strides 4, 8, 16 and 32."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Protocol

from torch import Tensor, nn

from voslab.core import Frame
from voslab.core.types import IMAGENET_MEAN, IMAGENET_STD

Norm = Literal["batch", "group"]


class Pyramid(NamedTuple):
    """Features of a frame at strides 4, 8 and 16, each B C h w."""

    f4: Tensor
    f8: Tensor
    f16: Tensor


class Backbone(nn.Module):
    """The convolutional part of a classification network.

    A subclass sets `conv1`, `bn1` and `relu`, which compute the features at stride 2, `layer1` to `layer4`, and
    `channels`.

    Attributes:
        mean: mean per colour channel of the images that the published weights expect.
        std: standard deviation per colour channel.
        channels: output channels of each layer.
    """

    mean: ClassVar[tuple[float, float, float]] = IMAGENET_MEAN
    std: ClassVar[tuple[float, float, float]] = IMAGENET_STD
    channels: tuple[int, ...]
    conv1: nn.Conv2d
    bn1: nn.Module
    relu: nn.Module

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of all layers from a normalised image B 3 H W.

        Their strides are 4, 8, 16 and 32, or 16 for the last one if dilated.
        """
        return self.forward_stem(self.conv1(x))

    def stem_convolutions(self) -> tuple[nn.Conv2d, ...]:
        """Return the convolutions whose sum `bn1` normalises."""
        return (self.conv1,)

    def forward_stem(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of all layers from the output B C H/2 W/2 of the first convolution."""
        return self.forward_layers(self.relu(self.bn1(x)))

    def forward_layers(self, c1: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of all layers from the output B C H/2 W/2 of the first activation."""
        x, outputs = self.pool_stem(c1), []
        for i in range(len(self.channels)):
            x = self.get_submodule(f"layer{i + 1}")(x)
            outputs.append(self.scale_output(x, i))
        return tuple(outputs)

    def pool_stem(self, c1: Tensor) -> Tensor:
        """Compute the input of `layer1` from the output of the first activation."""
        return c1

    def scale_output(self, x: Tensor, layer: int) -> Tensor:
        """Compute the output of layer `layer`, from 0, from the input of the next one."""
        return x


class HasEncoder(Protocol):
    """A network with an encoder of normalised frames."""

    encoder: Backbone
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
        >>> from voslab.nn.resnet import ResNet
        >>> network = SimpleNamespace(encoder=ResNet("resnet18", width=8).eval(), normalise=nn.Identity())
        >>> low_level_features(network, Frame(0, torch.zeros(1, 3, 32, 48))).shape
        torch.Size([1, 8, 8, 12])
    """
    encoder = network.encoder
    first = encoder.pool_stem(encoder.relu(encoder.bn1(encoder.conv1(network.normalise(frame.image)))))
    return encoder.scale_output(encoder.get_submodule("layer1")(first), 0)
