"""Brings codec data to the grid of a resized and padded frame."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import CodecData
from voslab.engine.padding import Pads


def fit_codec(
    codec: CodecData, source: tuple[int, int], size: tuple[int, int], pads: Pads, stride: int = 1
) -> CodecData:
    """Sample the codec data of a frame for its resized and padded copy.

    Motion and references are taken from the nearest cell at the centre of each target cell, and motion is scaled. The
    residual is interpolated. Nothing refers anywhere from the padding.

    Args:
        codec: fields on any grid over the whole frame; displacements in pixels of the frame.
        source: H W of the original frame.
        size: H W of the resized frame, without padding.
        pads: padding of the resized frame.
        stride: pixels per side of a cell of the returned motion and references.

    Returns:
        Codec data B C h w, displacements in pixels of the resized frame; motion and references on cells of `stride`
        pixels of the padded frame, the residual at the size of the padded frame.
    """
    motion, references, residual = codec.motion, codec.references, codec.residual
    if motion is not None:
        scale = motion.new_tensor([size[1] / source[1], size[0] / source[0]] * 2)
        motion = _sample(motion, size, pads, stride, outside=0) * scale.view(4, 1, 1)
    if references is not None:
        references = _sample(references, size, pads, stride, outside=-1)
    if residual is not None:
        residual = F.interpolate(residual, size, mode="bilinear", align_corners=False, antialias=True)
        residual = F.pad(residual, pads)
    return replace(codec, motion=motion, references=references, residual=residual)


def _sample(field: Tensor, size: tuple[int, int], pads: Pads, stride: int, outside: int) -> Tensor:
    """Sample a field at the centres of cells of the padded frame; cells in the padding get `outside`."""
    padding = ((pads.top, pads.bottom), (pads.left, pads.right))
    rows, columns = (
        torch.arange(stride // 2, before + extent + after, stride, device=field.device) - before
        for extent, (before, after) in zip(size, padding, strict=True)
    )
    inside = ((rows >= 0) & (rows < size[0]))[:, None] & (columns >= 0) & (columns < size[1])
    rows, columns = (
        ((centre + 0.5) * (old / new)).long().clamp(0, old - 1)
        for centre, new, old in zip((rows, columns), size, field.shape[-2:], strict=True)
    )
    return field[..., rows, :][..., columns].masked_fill(~inside, outside)
