"""Resizes codec data together with their frame."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import CodecData


def resize_codec(codec: CodecData, source: tuple[int, int], size: tuple[int, int]) -> CodecData:
    """Resize the codec data of a frame: motion is sampled at the nearest cell and scaled, the residual is interpolated.

    Args:
        codec: fields on any grid over the whole frame; displacements are in pixels of the frame.
        source: H W of the original frame.
        size: H W of the resized frame, and of the returned fields.

    Returns:
        Codec data B C H W at `size`.
    """
    motion, references, residual = codec.motion, codec.references, codec.residual
    if motion is not None:
        scale = motion.new_tensor([size[1] / source[1], size[0] / source[0]] * 2)
        motion = _nearest(motion, size) * scale.view(4, 1, 1)
    if references is not None:
        references = _nearest(references, size)
    if residual is not None:
        residual = F.interpolate(residual, size, mode="bilinear", align_corners=False, antialias=True)
    return replace(codec, motion=motion, references=references, residual=residual)


def _nearest(field: Tensor, size: tuple[int, int]) -> Tensor:
    rows, columns = (
        ((torch.arange(new, device=field.device) + 0.5) * (old / new)).long().clamp(max=old - 1)
        for new, old in zip(size, field.shape[-2:], strict=True)
    )
    return field[..., rows, :][..., columns]
