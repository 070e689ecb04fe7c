"""Normalisation of images as a layer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voslab.core.types import IMAGENET_MEAN, IMAGENET_STD


class Normalise(nn.Module):
    """(image - mean) / std with constants that are not part of the state dict.

    Args:
        mean: mean per colour channel; that of ImageNet by default.
        std: standard deviation per colour channel.

    Example:
        >>> Normalise()(torch.zeros(1, 3, 1, 1)).flatten()
        tensor([-2.1179, -2.0357, -1.8044])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, image: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 H W"]:
        """Normalise an image.

        Args:
            image: B 3 H W, RGB in [0, 1].

        Returns:
            normalised image B 3 H W.
        """
        return (image - self.mean) / self.std
