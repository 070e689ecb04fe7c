"""XMem's decoder: fuses feature, readout and sensory memory, refines to stride 4, and updates the sensory memory."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.backbone import Pyramid
from voslab.nn.blocks import FeatureFusion
from voslab.nn.decoders import Refine, STCNSharedFeatures, upsample
from voslab.nn.sensory import PyramidUpdate


class XMemDecoder(nn.Module):
    """Decodes readouts to log-odds.

    Args:
        value_channels: channels of a readout.
        sensory_channels: channels of the sensory memory; 0: none.
        features: channels of the frame's features at strides 4, 8 and 16.
        width: channels at stride 4, half of those at stride 16; 256 as published.
    """

    def __init__(self, value_channels: int, sensory_channels: int, features: tuple[int, ...], width: int = 256) -> None:
        super().__init__()
        f4, f8, f16 = features
        self.fuser = FeatureFusion(value_channels + sensory_channels, f16, 2 * width)
        self.refine8 = Refine(f8, 2 * width, width, skip_block=False)
        self.refine4 = Refine(f4, width, width, skip_block=False)
        self.predict = nn.Conv2d(width, 1, 3, padding=1)
        channels = (2 * width, width, width + 1)
        self.update = PyramidUpdate(channels, width, sensory_channels) if sensory_channels else None

    def forward_shared(self, features: Pyramid) -> STCNSharedFeatures:
        """Compute what the objects of a frame share."""
        f16 = self.fuser.forward_shared(features.f16)
        return STCNSharedFeatures(
            f16, self.refine8.forward_shared(features.f8), self.refine4.forward_shared(features.f4)
        )

    def forward(
        self,
        readout: Float[Tensor, "n c h w"],
        sensory: Float[Tensor, "n k h w"],
        shared: STCNSharedFeatures,
        update: bool = True,
    ) -> tuple[Float[Tensor, "n H W"], Float[Tensor, "n k h w"]]:
        """Decode the readouts of all objects.

        Args:
            readout: N value_channels h w.
            sensory: N sensory_channels h w.
            shared: the output of `forward_shared`.
            update: whether to update the sensory memory.

        Returns:
            log-odds N H W, and the sensory memory.
        """
        g16 = self.fuser(torch.cat([readout, sensory.to(readout.dtype)], 1), shared.f16)
        g8 = self.refine8(g16, shared.f8)
        g4 = self.refine4(g8, shared.f4)
        coarse = self.predict(F.relu(g4))
        if update and self.update is not None:
            sensory = self.update((g16, g8, torch.cat([g4, coarse], 1)), sensory)
        return upsample(coarse, 4)[:, 0], sensory
