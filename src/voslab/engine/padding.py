"""Pads frames and masks to a network's stride, and crops the result."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import Frame, Masks
from voslab.core.segmenter import Padding
from voslab.core.types import IMAGENET_MEAN

Mean = tuple[float, float, float]


class Pads(NamedTuple):
    """Rows and columns added on each side."""

    left: int
    right: int
    top: int
    bottom: int


def pads(size: tuple[int, int], stride: int, padding: Padding) -> Pads:
    """Compute the padding after which `stride` divides height and width.

    Both sides get half. If the number is odd, the larger half is at the right and bottom (STM, STCN), or at the left
    and top with `reflect` (CRVOS).

    Args:
        size: H W.
        stride: stride of the segmenter.
        padding: kind of padding.

    Returns:
        rows and columns to add.
    """
    smaller, larger = zip(*((-n % stride // 2, (-n % stride + 1) // 2) for n in size), strict=True)
    first, second = (larger, smaller) if padding == "reflect" else (smaller, larger)
    return Pads(first[1], second[1], first[0], second[0])


def pad(
    frame: Frame, masks: Masks | None, stride: int, padding: Padding, mean: Mean = IMAGENET_MEAN
) -> tuple[Frame, Masks | None, Pads]:
    """Pad a frame and its masks to a multiple of `stride`.

    Args:
        frame: image B 3 H W; its codec data stays as it is (see `fit_codec`).
        masks: probs B O H W of the same frame, or None.
        stride: number that divides the padded H and W.
        padding: `zeros`; `mean`, which is zero after normalisation; or `reflect`, which mirrors image and masks,
            repeatedly if one reflection is too short. Masks are padded with 0 otherwise.
        mean: mean per colour channel that the network subtracts.

    Returns:
        the padded frame and masks, and the padding, for `crop`.
    """
    height, width = frame.image.shape[-2:]
    p = pads((height, width), stride, padding)
    if p == (0, 0, 0, 0):
        return frame, masks, p
    probs = None if masks is None else masks.probs
    if padding == "reflect":
        rows = _mirror(height, p.top, p.bottom, frame.image.device)
        columns = _mirror(width, p.left, p.right, frame.image.device)
        image = frame.image[..., rows, :][..., columns]
        probs = None if probs is None else probs[..., rows, :][..., columns]
    else:
        if padding == "mean":
            colour = frame.image.new_tensor(mean).view(1, 3, 1, 1)
            image = colour.repeat(len(frame.image), 1, height + p.top + p.bottom, width + p.left + p.right)
            crop(image, p).copy_(frame.image)
        else:
            image = F.pad(frame.image, p)
        probs = None if probs is None else F.pad(probs, p)
    return replace(frame, image=image), None if masks is None or probs is None else masks.with_probs(probs), p


def crop(x: Tensor, p: Pads) -> Tensor:
    """Crop a tensor … H W to undo `pad`."""
    height, width = x.shape[-2:]
    return x[..., p.top : height - p.bottom, p.left : width - p.right]


def _mirror(length: int, before: int, after: int, device: torch.device) -> Tensor:
    """Return indices of a reflection without repeated edge; it may be longer than the image."""
    index = torch.arange(-before, length + after, device=device)
    if length == 1:
        return torch.zeros_like(index)
    period = 2 * (length - 1)
    index = index.remainder(period)
    return torch.minimum(index, period - index)
