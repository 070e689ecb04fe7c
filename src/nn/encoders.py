"""Encoders of masks, and projections to keys and values."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.core import Masks
from src.nn.blocks import per_object
from src.nn.resnet import Norm, ResNet


def masks_and_others(masks: Masks, clamp: bool) -> Tensor:
    """Each object's mask beside the sum of all other objects' masks, B O 2 H W; STM clamps the sum to [0, 1]."""
    planes = masks.planes * masks.valid[:, :, None, None]
    others = planes.sum(1, keepdim=True) - planes
    return torch.stack([planes, others.clamp(0, 1) if clamp else others], 2)


class MaskEncoder(ResNet):
    """A ResNet to stride 16 over image, mask and others; the image's share of its first layer is computed once."""

    def __init__(self, name: str, norm: Norm = "batch", width: int = 64, bias: bool = False) -> None:
        super().__init__(name, norm, width, layers=3, bias=bias)
        self.conv1_mask = nn.Conv2d(2, width, 7, 2, 3, bias=False)
        nn.init.kaiming_normal_(self.conv1_mask.weight, mode="fan_out", nonlinearity="relu")

    def encode(self, stem: Tensor, masks: Tensor) -> Tensor:
        """`conv1` of the normalised image, B width H/2 W/2, and masks N 2 H W -> features N C H/16 W/16."""
        return self.body(per_object(self.conv1_mask(masks), stem))[-1]


@torch.no_grad()
def centre_key(key: nn.Conv2d, features: Tensor) -> None:
    """Begin a key projection, for random initialisation, so that its keys average to zero over `features` N C h w.

    Features behind a ReLU share a large part at all positions. In a dot product it decides alone which positions of a
    memory are read, whatever is asked, and a network needs long to learn its way out.
    """
    assert key.bias is not None
    nn.init.orthogonal_(key.weight, 2.0)
    nn.init.zeros_(key.bias)
    key.bias.copy_(-key(features).mean((0, 2, 3)))


def clouds(size: int = 128) -> Tensor:
    """2 3 H W: two pictures of noise at several scales, always the same, in [0, 1]; they stand in for real ones."""
    rng = torch.Generator().manual_seed(0)
    layers = ((4, 0.5), (16, 0.3), (64, 0.2))
    noise = [torch.rand(2, 3, cells, cells, generator=rng) * weight for cells, weight in layers]
    return torch.stack([F.interpolate(layer, (size, size), mode="bilinear") for layer in noise]).sum(0)


class KeyValue(nn.Module):
    """A 3x3 projection to a key, which is compared, and one to a value, which is carried."""

    def __init__(self, inputs: int, key: int, value: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(inputs, key, 3, padding=1)
        self.value = nn.Conv2d(inputs, value, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N inputs h w -> key N Ck h w, value N Cv h w."""
        return self.key(x), self.value(x)
