"""Augments the first frame, so that adaptation sees its objects in other places and light."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import Frame, Masks

ROTATION, SCALE, BRIGHTNESS = 20.0, 1.3, 0.2
"""Largest rotation in degrees, factor of the size and its inverse, and relative change of brightness."""


def augmented(frame: Frame, masks: Masks, seed: int) -> tuple[Frame, Masks]:
    """Flip, rotate, scale and brighten or darken a frame and its masks, around the centre of the frame.

    Args:
        frame: image B 3 H W.
        masks: probs B O H W.
        seed: seed of the parameters, which are equal for all clips. Every second copy is flipped.

    Returns:
        the copy, whose uncovered pixels mirror the frame, and its masks.
    """
    rng = torch.Generator().manual_seed(seed)
    turn, grow, light = (2 * torch.rand(3, generator=rng) - 1).tolist()
    angle, scale = math.radians(ROTATION * turn), SCALE**grow
    flip = -1.0 if seed % 2 == 0 else 1.0
    height, width = frame.image.shape[-2:]
    cos, sin, aspect = math.cos(angle) / scale, math.sin(angle) / scale, height / width
    matrix = frame.image.new_tensor([[flip * cos, -flip * sin * aspect, 0], [sin / aspect, cos, 0]])
    grid = F.affine_grid(matrix.expand(len(frame.image), 2, 3), [len(frame.image), 1, height, width], False)
    image = _sample(frame.image, grid) * (1 + BRIGHTNESS * light)
    return Frame(frame.index, image.clamp(0, 1)), Masks(_sample(masks.probs, grid), masks.slot_mask)


def _sample(x: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(x, grid.to(x.dtype), "bilinear", "reflection", False)
