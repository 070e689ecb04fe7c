"""Cutie's decoder: refines object readouts to stride 4, and updates the sensory memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.backbone import Pyramid
from voslab.nn.decoders import Refine
from voslab.nn.precision import at_least_float32
from voslab.nn.sensory import PyramidUpdate


class SharedFeatures(NamedTuple):
    """What the objects of a frame share: skip connections at strides 8 and 4, each B C h w."""

    f8: Tensor
    f4: Tensor


class CutieDecoder(nn.Module):
    """Decodes object readouts to log-odds at stride 4.

    Args:
        channels: channels of a readout.
        sensory_channels: channels of the sensory memory.
        features: channels of the frame's features at strides 4, 8 and 16.
        width: channels at strides 8 and 4; 128 as published.
    """

    def __init__(self, channels: int, sensory_channels: int, features: tuple[int, ...], width: int) -> None:
        super().__init__()
        f4, f8, _ = features
        self.refine8 = Refine(f8, channels, width, skip_block=False, skip_kernel=1)
        self.refine4 = Refine(f4, width, width, skip_block=False, skip_kernel=1)
        self.predict = nn.Conv2d(width, 1, 3, padding=1)
        self.update = PyramidUpdate((channels, width, width + 1), sensory_channels, sensory_channels)

    def forward_shared(self, features: Pyramid) -> SharedFeatures:
        """Compute what the objects of a frame share."""
        return SharedFeatures(self.refine8.forward_shared(features.f8), self.refine4.forward_shared(features.f4))

    def forward(
        self,
        readout: Float[Tensor, "n c h w"],
        sensory: Float[Tensor, "n k h w"],
        shared: SharedFeatures,
        update: bool = True,
    ) -> tuple[Float[Tensor, "n h4 w4"], Float[Tensor, "n k h w"]]:
        """Decode the readouts of all objects.

        Args:
            readout: N C h w.
            sensory: N sensory_channels h w.
            shared: the output of `forward_shared`.
            update: whether to update the sensory memory.

        Returns:
            log-odds N 4h 4w, and the sensory memory.
        """
        g8 = self.refine8(readout, shared.f8)
        g4 = self.refine4(g8, shared.f4)
        with torch.autocast(g4.device.type, enabled=False):
            log_odds = self.predict(at_least_float32(F.relu(g4)))
        if update:
            sensory = self.update((readout, g8, torch.cat([g4, log_odds.to(g4.dtype)], 1)), sensory)
        return log_odds[:, 0], sensory
