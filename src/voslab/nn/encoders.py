"""Frame and mask encoders, and key and value projections."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import Masks, Projection
from voslab.nn import efficientnet_lite, resnet
from voslab.nn.backbone import Backbone, Norm, Pyramid
from voslab.nn.blocks import add_shared
from voslab.nn.convolutions import SameConv2d
from voslab.nn.efficientnet_lite import EfficientNetLite
from voslab.nn.key_projections import project
from voslab.nn.normalise import Normalise
from voslab.nn.resnet import ResNet


def frame_encoder(name: str, norm: Norm = "batch", width: int = 64, layers: int = 3, dilated: bool = False) -> Backbone:
    """Build a frame encoder by name.

    Args:
        name: a ResNet or an EfficientNet-Lite.
        norm: see `ResNet`.
        width: see `ResNet`; EfficientNets have a fixed width.
        layers: number of layers, 1 to 4.
        dilated: see `ResNet`.

    Returns:
        the encoder, with random weights.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> frame_encoder("efficientnet_lite0").channels, frame_encoder("resnet18", width=48).channels
        ((24, 40, 112), (48, 96, 192))
    """
    if name in efficientnet_lite.SCALES:
        return EfficientNetLite(name, norm, dilated, layers)
    _check_name(name)
    return ResNet(name, norm, width, dilated, layers)


def _check_name(name: str) -> None:
    if name not in resnet.DEPTHS:
        known = ", ".join((*resnet.DEPTHS, *efficientnet_lite.SCALES))
        raise ValueError(f"unknown backbone '{name}', choose from {known}")


MASK_STRIDE = 4
"""Stride at which `LightMaskEncoder` sees the masks first."""


def masks_with_others(masks: Masks, clamp: bool) -> Float[Tensor, "b o 2 H W"]:
    """Stack the mask of each object and the sum of all other objects' masks.

    Args:
        masks: probs B O H W.
        clamp: clamp the sum to [0, 1], as STM does.

    Returns:
        B O 2 H W; zero for unused slots.

    Example:
        >>> masks = Masks(torch.ones(1, 3, 4, 4), torch.tensor([[True, True, False]]))
        >>> masks_with_others(masks, clamp=False)[0, :, :, 0, 0].tolist()
        [[1.0, 1.0], [1.0, 1.0], [0.0, 2.0]]
    """
    probs = masks.probs * masks.slot_mask[:, :, None, None]
    others = probs.sum(1, keepdim=True) - probs
    return torch.stack([probs, others.clamp(0, 1) if clamp else others], 2)


class MaskStem(Backbone):
    """Encodes image, object mask and other objects' masks: `conv1_mask` is added to the convolution of the image.

    The convolution of the image is computed once per frame and added to the convolution of the masks of each object.
    """

    normalise: Normalise
    conv1_mask: nn.Conv2d

    def stem_convolutions(self) -> tuple[nn.Conv2d, ...]:
        """See `Backbone.stem_convolutions`."""
        return self.conv1, self.conv1_mask

    def encode_image(self, image: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c H_2 W_2"]:
        """Compute `conv1` of an image in [0, 1]: B 3 H W -> B C H/2 W/2."""
        stem: Tensor = self.conv1(self.normalise(image))
        return stem

    def encode(self, stem: Float[Tensor, "b c H_2 W_2"], masks: Float[Tensor, "n 2 H W"]) -> Float[Tensor, "n f h w"]:
        """Encode the masks of all objects.

        Args:
            stem: the output of `encode_image`.
            masks: N 2 H W, see `masks_with_others`.

        Returns:
            features N C H/16 W/16.
        """
        return self.forward_stem(add_shared(self.conv1_mask(masks), stem))[-1]


class MaskEncoder(MaskStem, ResNet):
    """A ResNet to stride 16 with masks in its stem.

    Args:
        name: see `ResNet`.
        norm: see `ResNet`.
        width: see `ResNet`.
        bias: see `ResNet`.
    """

    def __init__(self, name: str, norm: Norm = "batch", width: int = 64, bias: bool = False) -> None:
        super().__init__(name, norm, width, layers=3, bias=bias)
        self.normalise = Normalise(self.mean, self.std)
        self.conv1_mask = nn.Conv2d(2, width, 7, 2, 3, bias=False)
        nn.init.kaiming_normal_(self.conv1_mask.weight, mode="fan_out", nonlinearity="relu")


class LiteMaskEncoder(MaskStem, EfficientNetLite):
    """An EfficientNet-Lite to stride 16 with masks in its stem.

    Args:
        name: see `EfficientNetLite`.
        norm: see `EfficientNetLite`.
    """

    def __init__(self, name: str, norm: Norm = "batch") -> None:
        super().__init__(name, norm, layers=3)
        self.normalise = Normalise(self.mean, self.std)
        self.conv1_mask = SameConv2d(2, self.conv1.out_channels, 3, 2)
        nn.init.kaiming_normal_(self.conv1_mask.weight, mode="fan_out", nonlinearity="relu")


def mask_encoder(name: str, norm: Norm = "batch", width: int = 64, bias: bool = False) -> MaskStem:
    """Build a mask encoder by name.

    Args:
        name: a ResNet or an EfficientNet-Lite.
        norm: see `ResNet`.
        width: see `ResNet`; EfficientNets have a fixed width.
        bias: whether the convolutions of a ResNet have a bias.

    Returns:
        the encoder, with random weights.

    Raises:
        ValueError: if the name is unknown.

    Example:
        >>> encoder = mask_encoder("efficientnet_lite0")
        >>> encoder.encode(encoder.encode_image(torch.zeros(1, 3, 32, 32)), torch.zeros(2, 2, 32, 32)).shape
        torch.Size([2, 112, 2, 2])
    """
    if name in efficientnet_lite.SCALES:
        return LiteMaskEncoder(name, norm)
    _check_name(name)
    return MaskEncoder(name, norm, width, bias)


class LightMaskEncoder(nn.Module):
    """Adds masks to the features of a frame with one convolution per stride, without running an encoder again.

    A convolution of stride 4 sees every pixel of the masks as a channel. It and two convolutions of stride 2 are
    summed with 1x1 projections of the frame's features, which are computed once per frame.

    Args:
        features: channels of the frame's features at strides 4, 8 and 16.
        width: channels at stride 4, doubled at strides 8 and 16.
    """

    def __init__(self, features: tuple[int, ...], width: int = 64) -> None:
        super().__init__()
        self.channels = (width, 2 * width, 4 * width)
        self.frame = nn.ModuleList(nn.Conv2d(*each, 1) for each in zip(features, self.channels, strict=True))
        self.masks = nn.Conv2d(2 * MASK_STRIDE**2, width, 3, padding=1, bias=False)
        self.down8 = nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False)
        self.down16 = nn.Conv2d(2 * width, 4 * width, 3, 2, 1, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward_shared(self, features: Pyramid) -> Pyramid:
        """Project the frame's features: B C h w each, to the encoder's channels at the same stride."""
        return Pyramid(*(project(x) for project, x in zip(self.frame, features, strict=True)))

    def encode(self, shared: Pyramid, masks: Float[Tensor, "n 2 H W"]) -> Float[Tensor, "n f h w"]:
        """Encode the masks of all objects.

        Args:
            shared: the output of `forward_shared`.
            masks: N 2 H W, see `masks_with_others`.

        Returns:
            features N 4*width H/16 W/16.
        """
        x = F.relu(add_shared(self.masks(F.pixel_unshuffle(masks, MASK_STRIDE)), shared.f4), inplace=True)
        x = F.relu(add_shared(self.down8(x), shared.f8), inplace=True)
        return add_shared(self.down16(x), shared.f16)


class KeyValue(nn.Module):
    """Two 3x3 convolutions: one to the key, which is compared, one to the value, which is read.

    Args:
        inputs: input channels.
        key: channels Ck of the key.
        value: channels Cv of the value.
        centred: subtract the mean over positions before the key projection. Features after a ReLU share a large
            component at all positions. With separate query and memory projections it dominates their dot product, and
            training from random initialisation does not recover from that.
    """

    def __init__(self, inputs: int, key: int, value: int, centred: bool = False) -> None:
        super().__init__()
        self.centred = centred
        self.key = nn.Conv2d(inputs, key, 3, padding=1)
        self.value = nn.Conv2d(inputs, value, 3, padding=1)
        if centred:
            assert self.key.bias is not None
            nn.init.orthogonal_(self.key.weight, 2.0)
            nn.init.zeros_(self.key.bias)

    def key_input(self, x: Float[Tensor, "*n c h w"]) -> Float[Tensor, "*n c h w"]:
        """Compute the input of the key projection from features of shape (…, inputs, h, w)."""
        return x - x.mean((-2, -1), keepdim=True) if self.centred else x

    def forward(
        self, x: Float[Tensor, "n c h w"], projection: Projection | None = None
    ) -> tuple[Float[Tensor, "n k h w"], Float[Tensor, "n v h w"]]:
        """Compute key and value.

        Args:
            x: N inputs h w.
            projection: key projection per clip, used in place of the network's; None: the network's own.

        Returns:
            key N Ck h w and value N Cv h w.
        """
        return project(self.key, self.key_input(x), projection), self.value(x)
