"""Converts images and masks to tensors at the working size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from voslab.core import Masks
from voslab.engine.settings import Settings


def working_image(image: NDArray[np.uint8], settings: Settings, device: torch.device) -> Tensor:
    """Convert an image to a tensor at the working size.

    Args:
        image: H W 3, uint8, RGB.
        settings: engine settings, which define the working size.
        device: device of the result.

    Returns:
        1 3 h w, float in [0, 1].
    """
    tensor = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    tensor = tensor.permute(2, 0, 1).unsqueeze(0).float().div_(255).contiguous()
    size = settings.working_size((tensor.shape[-2], tensor.shape[-1]))
    if size == tuple(tensor.shape[-2:]):
        return tensor
    return F.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)


def working_masks(labels: NDArray[np.integer], ids: Sequence[int], settings: Settings, device: torch.device) -> Masks:
    """Convert a label map to masks at the working size. Every object in it keeps at least one pixel.

    Args:
        labels: H W, object ids.
        ids: O ids, in the order of the slots.
        settings: engine settings, which define the working size.
        device: device of the result.

    Returns:
        masks 1 O h w, 0 or 1.
    """
    probs = np.stack([labels == i for i in ids])[None]
    tensor = torch.from_numpy(probs).to(device, torch.float32)
    size = settings.working_size((tensor.shape[-2], tensor.shape[-1]))
    if size != tuple(tensor.shape[-2:]):
        source, tensor = tensor, F.interpolate(tensor, size, mode="nearest-exact")
        flat = tensor[0].flatten(1)
        # An object without a pixel gets the pixel that it covers most, unless it is the only one of another object.
        for slot in torch.nonzero(~flat.any(1) & source[0].flatten(1).any(1)).flatten().tolist():
            pixel = F.interpolate(source[:, slot : slot + 1], size, mode="area").argmax()
            flat[flat.sum(1) > 1, pixel] = 0
            flat[slot, pixel] = 1
    return Masks(tensor, torch.ones(1, len(ids), dtype=torch.bool, device=device))
