"""ImageNet normalisation inside the network, so that no caller can forget it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voslab.core.types import IMAGENET_MEAN, IMAGENET_STD


class Normalise(nn.Module):
    """(image - mean) / std with the ImageNet constants; they are no part of the state dict."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """B 3 H W in [0, 1] -> normalised."""
        return (image - self.mean) / self.std
