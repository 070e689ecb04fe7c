"""Codec side data on the grid that masks are carried on, at a quarter of the frame's size.

Displacements are in pixels of the frame they come with, whatever grid they lie on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import Frame, VideoError

STRIDE = 4
"""Pixels to a cell."""


class Fields(NamedTuple):
    """Side data of a frame by cell.

    Attributes:
        motion: B 4 h w, float32, in cells.
        references: B 2 h w, presentation indices; -1 where a list is unused.
        residual: B C h w, float32 in [-1, 1], or bool: already compared to a threshold; None: not known.
    """

    motion: Tensor
    references: Tensor
    residual: Tensor | None


def is_key(frame: Frame) -> bool:
    """Whether a base model must look at a frame: it says so, or there is nothing it could be predicted from."""
    codec = frame.codec
    return frame.key or codec is None or codec.motion is None or codec.references is None


def to_quarter(frame: Frame) -> Fields:
    """Side data of a frame that is no key frame, at its own size or at a quarter of it.

    Vectors and references are those of the pixel at a cell's centre; the residual is interpolated.

    Raises:
        VideoError: if they are of any other size.
    """
    codec = frame.codec
    assert codec is not None, "a frame without side data is a key frame"
    assert codec.motion is not None, "a frame without vectors is a key frame"
    assert codec.references is not None, "a frame without references is a key frame"
    for name in ("motion", "references", "residual"):
        _check(frame, name, getattr(codec, name))
    height, device = frame.image.shape[-2], frame.image.device
    # Before they travel to the device.
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
        raise VideoError(f"frame {frame.index}: its {name} is {size}, the frame {height}x{width}")


def _smaller(residual: Tensor) -> Tensor:
    """H W -> H/4 W/4; of a map of choices, the cell's centre."""
    if residual.dtype == torch.bool:
        return residual[..., STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
    return F.interpolate(residual.float(), scale_factor=1 / STRIDE, mode="bilinear", align_corners=False)
