"""Brings codec data to the grid on which masks are propagated, at a quarter of the frame's size.

Displacements in codec data are in pixels of the frame, whatever the grid.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import Frame, VideoError

STRIDE = 4
"""Pixels per cell side."""


class Fields(NamedTuple):
    """Codec data of a frame, by cell.

    Attributes:
        motion: B 4 h w, float32, in cells.
        references: B 2 h w, presentation indices; -1 where a list is unused.
        residual: B C h w, float32 in [-1, 1], or bool if a threshold was applied already; None if unknown.
    """

    motion: Tensor
    references: Tensor
    residual: Tensor | None


def is_key(frame: Frame) -> bool:
    """Return whether the base model processes a frame: it is marked as key frame, or has no motion vectors."""
    codec = frame.codec
    return frame.key or codec is None or codec.motion is None or codec.references is None


def to_quarter(frame: Frame) -> Fields:
    """Return the codec data of a B-frame at a quarter of the frame's size.

    Motion and references are sampled at the pixel in the centre of each cell; the residual is interpolated.

    Args:
        frame: Frame that is no key frame; codec data B C H W at the frame's size or at a quarter of it.

    Returns:
        Fields on the quarter grid, on the device of the image.

    Raises:
        VideoError: if a field has another size.
    """
    codec = frame.codec
    assert codec is not None, "a frame without codec data is a key frame"
    assert codec.motion is not None, "a frame without vectors is a key frame"
    assert codec.references is not None, "a frame without references is a key frame"
    for name in ("motion", "references", "residual"):
        _check(frame, name, getattr(codec, name))
    height, device = frame.image.shape[-2], frame.image.device
    # Sampled before the transfer to the device.
    motion, references = (
        field[..., STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] if field.shape[-2] == height else field
        for field in (codec.motion, codec.references)
    )
    residual = None if codec.residual is None else codec.residual.to(device)
    if residual is not None and residual.shape[-2] == height:
        residual = _smaller(residual)
    return Fields(motion.to(device).float() / STRIDE, references.to(device), residual)


def _check(frame: Frame, name: str, field: Tensor | None) -> None:
    if field is None:
        return
    height, width = frame.image.shape[-2:]
    if tuple(field.shape[-2:]) not in ((height, width), (height // STRIDE, width // STRIDE)):
        size = "x".join(map(str, field.shape[-2:]))
        raise VideoError(f"frame {frame.index}: {name} has size {size}, the frame {height}x{width}")


def _smaller(residual: Tensor) -> Tensor:
    """Reduce B C H W to B C H/4 W/4; a boolean residual is sampled at the centre of each cell."""
    if residual.dtype == torch.bool:
        return residual[..., STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
    return F.interpolate(residual.float(), scale_factor=1 / STRIDE, mode="bilinear", align_corners=False)
