"""Encoders of masks, and projections to keys and values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voslab.core import Masks, Projection
from voslab.nn.blocks import per_object
from voslab.nn.key_projections import project
from voslab.nn.resnet import Norm, ResNet


def masks_and_others(masks: Masks, clamp: bool) -> Tensor:
    """Each object's mask beside the sum of all other objects' masks, B O 2 H W; STM clamps the sum to [0, 1]."""
    probs = masks.probs * masks.slot_mask[:, :, None, None]
    others = probs.sum(1, keepdim=True) - probs
    return torch.stack([probs, others.clamp(0, 1) if clamp else others], 2)


class MaskEncoder(ResNet):
    """A ResNet to stride 16 over image, mask and others; the image's share of its first layer is computed once."""

    def __init__(self, name: str, norm: Norm = "batch", width: int = 64, bias: bool = False) -> None:
        super().__init__(name, norm, width, layers=3, bias=bias)
        self.conv1_mask = nn.Conv2d(2, width, 7, 2, 3, bias=False)
        nn.init.kaiming_normal_(self.conv1_mask.weight, mode="fan_out", nonlinearity="relu")

    def stem(self) -> tuple[nn.Conv2d, ...]:
        """See `ResNet.stem`."""
        return self.conv1, self.conv1_mask

    def encode(self, stem: Tensor, masks: Tensor) -> Tensor:
        """`conv1` of the normalised image, B width H/2 W/2, and masks N 2 H W -> features N C H/16 W/16."""
        return self.body(per_object(self.conv1_mask(masks), stem))[-1]


class KeyValue(nn.Module):
    """A 3x3 projection to a key, which is compared, and one to a value, which is carried.

    Args:
        inputs, key, value: channels.
        centred: keys are made of what sets a position apart from its frame's mean. Features behind a ReLU share a
            large part at all positions; in a dot product of keys from two projections it comes to decide alone which
            positions of a memory are read, whatever is asked, and random weights do not learn their way out.
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

    def compared(self, x: Tensor) -> Tensor:
        """What the key is made of, … inputs h w."""
        return x - x.mean((-2, -1), keepdim=True) if self.centred else x

    def forward(self, x: Tensor, own: Projection | None = None) -> tuple[Tensor, Tensor]:
        """N inputs h w -> key N Ck h w, by the clips' `own` projections where there are some, and value N Cv h w."""
        return project(self.key, self.compared(x), own), self.value(x)
