"""Sensory memory of XMem: one hidden feature map per object, which gated updates change over time (section 3.4)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.nn.precision import at_least_float32


class SensoryUpdate(nn.Module):
    """Gated update h' = f h (1 - u) + u n, where one convolution computes f, u and n.

    Unlike in a GRU, the candidate n sees the whole hidden state.

    Args:
        inputs: channels of the new features.
        hidden: channels of the hidden state.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(inputs + hidden, 3 * hidden, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(self, x: Float[Tensor, "n c h w"], hidden: Float[Tensor, "n k h w"]) -> Float[Tensor, "n k h w"]:
        """Update the hidden state N hidden h w by features N inputs h w; its dtype stays."""
        gates = at_least_float32(self.transform(torch.cat([x, hidden.to(x.dtype)], 1)))
        forget, update, new = gates.chunk(3, 1)
        update = update.sigmoid()
        return (forget.sigmoid() * hidden * (1 - update) + update * new.tanh()).to(hidden.dtype)


class PyramidUpdate(nn.Module):
    """A `SensoryUpdate` by the features of a decoder at strides 16, 8 and 4, each reduced to stride 16.

    Args:
        channels: channels of the features at strides 16, 8 and 4.
        inner: channels of their sum.
        hidden: channels of the hidden state.
    """

    def __init__(self, channels: tuple[int, int, int], inner: int, hidden: int) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Conv2d(count, inner, 1) for count in channels)
        self.update = SensoryUpdate(inner, hidden)

    def forward(
        self, features: tuple[Tensor, Tensor, Tensor], hidden: Float[Tensor, "n k h w"]
    ) -> Float[Tensor, "n k h w"]:
        """Update the hidden state N hidden h w by features at strides 16, 8 and 4, each N C h w."""
        coarse, *fine = features
        pooled = [coarse, *(F.avg_pool2d(x, 2 * 2**i) for i, x in enumerate(fine))]
        projected = [project(x) for project, x in zip(self.project, pooled, strict=True)]
        return self.update(projected[0] + projected[1] + projected[2], hidden)  # type: ignore[no-any-return]
