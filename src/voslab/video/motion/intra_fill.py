"""Estimates motion for intra blocks of B-frames.

The codec uses intra blocks where it finds no good match, often on fast objects. Masks that are propagated by vectors
alone have holes there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from voslab.core import CodecData, RawFrame
from voslab.core.warp import warp
from voslab.video.motion.optical_flow import Luma, luma_of, motion_from_flow, on_grid

Fill = Literal["none", "nearest", "matched", "flow"]
FILLS: tuple[Fill, ...] = get_args(Fill)

_WINDOW = 5
"""Height and width in cells of the window over which matching errors are averaged."""

_MAX_FRAMES = 40
"""Number of frames in memory. No B-frame refers further back."""


class _LumaCache:
    """Luma of earlier frames: on the grid of the fields for all of them, at full resolution for key frames."""

    def __init__(self) -> None:
        self.small: dict[int, Tensor] = {}
        self.keys: dict[int, Luma] = {}

    def add(self, frame: RawFrame, grid: tuple[int, int] | None, full_resolution: bool) -> None:
        luma = luma_of(frame)
        if grid is not None:
            self.small = dict([*self.small.items(), (frame.index, _to_grid(luma, grid))][-_MAX_FRAMES:])
        if full_resolution and (frame.codec is None or frame.codec.is_key):
            self.keys = dict(sorted(self.keys.items())[-2:]) | {frame.index: luma}


def fill_intra_blocks(frames: Iterable[RawFrame], fill: Fill) -> Iterator[RawFrame]:
    """Fill in motion, references and residual of the intra blocks of frames that are propagated, such as B-frames.

    Blocks that keep no motion get a residual of 1, the maximum, so that a correction by the residual reaches them.

    Args:
        frames: frames in decode order.
        fill: source of the motion. `none` fills nothing. `nearest` copies the nearest cell that has
            motion. `matched` copies the nearest cell in one of four directions, or in any, with the smallest residual.
            `flow` computes optical flow to the nearest key frames.

    Yields:
        the frames; other blocks are unchanged.
    """
    return map(_mark_holes, frames) if fill == "none" else map(_mark_holes, _fill_frames(frames, fill))


def _mark_holes(frame: RawFrame) -> RawFrame:
    """Give the residual its maximum where a frame that is propagated has no motion."""
    codec = frame.codec
    if codec is None or codec.is_key or codec.references is None or codec.residual is None:
        return frame
    holes = (codec.references < 0).all(1, keepdim=True)
    if not holes.any():
        return frame
    return replace(frame, codec=replace(codec, residual=codec.residual.masked_fill(holes, 1.0)))


def _fill_frames(frames: Iterable[RawFrame], fill: Fill) -> Iterator[RawFrame]:
    lumas = _LumaCache()
    for frame in frames:
        codec = frame.codec
        if codec is None or codec.motion is None or codec.references is None:
            lumas.add(frame, None, fill == "flow")
            yield frame
            continue
        if not codec.is_key:
            holes = (codec.references < 0).all(1, keepdim=True)
            if holes.any() and (fill == "flow" or not holes.all()):
                filled = _fill(frame, codec, holes, lumas, fill)
                if codec.residual is not None:
                    residual = _residual(frame, filled, lumas.small)
                    filled = replace(filled, residual=torch.where(holes, residual, codec.residual))
                frame = replace(frame, codec=filled)
        lumas.add(frame, _grid(codec.motion), fill == "flow")
        yield frame


def _fill(frame: RawFrame, codec: CodecData, holes: Tensor, lumas: _LumaCache, fill: Fill) -> CodecData:
    if fill == "nearest":
        return _fill_from_nearest(codec, holes)
    if fill == "matched":
        return _fill_from_match(frame, codec, holes, lumas.small)
    return _fill_from_flow(frame, codec, holes, lumas.keys)


def _fill_from_nearest(codec: CodecData, holes: Tensor) -> CodecData:
    """Copy the motion of the nearest cell that has some."""
    missing = holes[0, 0].numpy().astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(missing, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    # OpenCV numbers the cells that have motion; the labels at these cells give the position of each number.
    present = np.flatnonzero(missing == 0)
    position = np.zeros(int(labels.max()) + 1, np.int64)
    position[np.asarray(labels).ravel()[present]] = present
    return _copy_cells(codec, position[np.asarray(labels)])


def _fill_from_match(frame: RawFrame, codec: CodecData, holes: Tensor, lumas: dict[int, Tensor]) -> CodecData:
    """Copy the nearest cell, in any or in one of four directions, whose motion has the smallest residual."""
    sources = _nearest_by_direction(~holes[0, 0].numpy())
    candidates = [_fill_from_nearest(codec, holes), *(_copy_cells(codec, source) for source in sources)]
    errors = []
    for candidate in candidates:
        residual = _residual(frame, candidate, lumas)
        errors.append(F.avg_pool2d(residual.abs(), _WINDOW, 1, _WINDOW // 2, count_include_pad=False))
    best = torch.stack(errors).argmin(0)
    motion, references = codec.motion, codec.references
    for number, candidate in enumerate(candidates):
        selected = holes & (best == number)
        assert motion is not None
        assert references is not None
        assert candidate.motion is not None
        assert candidate.references is not None
        motion = torch.where(selected, candidate.motion, motion)
        references = torch.where(selected, candidate.references, references)
    return replace(codec, motion=motion, references=references)


def _nearest_by_direction(present: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Find the nearest cell with motion to the left, to the right, above and below each cell.

    Args:
        present: h w, cells with motion.

    Yields:
        h w, flat indices, for each direction; the index of the cell itself where there is none.
    """
    own = np.arange(present.size).reshape(present.shape)
    for axis in (1, 0):
        for step in (slice(None), slice(None, None, -1)):
            flip = (slice(None),) * axis + (step,)
            steps = np.arange(present.shape[axis]).reshape((-1,) if axis else (-1, 1))
            last = np.maximum.accumulate(np.where(present[flip], steps, -1), axis=axis)
            nearest = np.take_along_axis(own[flip], np.maximum(last, 0), axis=axis)
            yield np.where(last >= 0, nearest, own[flip])[flip]


def _copy_cells(codec: CodecData, source: NDArray[np.int64]) -> CodecData:
    """Copy motion and references to each cell from the cell with flat index `source` (h w)."""
    motion, references = codec.motion, codec.references
    assert motion is not None
    assert references is not None
    index = torch.from_numpy(np.ascontiguousarray(source).ravel())
    return replace(
        codec,
        motion=motion.flatten(2)[..., index].view_as(motion),
        references=references.flatten(2)[..., index].view_as(references),
    )


def _fill_from_flow(frame: RawFrame, codec: CodecData, holes: Tensor, keys: dict[int, Luma]) -> CodecData:
    nearest = (
        max((index for index in keys if index < frame.index), default=-1),
        min((index for index in keys if index > frame.index), default=-1),
    )
    flow = motion_from_flow(frame, codec, {index: keys[index] for index in nearest if index >= 0})
    assert codec.motion is not None
    assert codec.references is not None
    assert flow.motion is not None
    assert flow.references is not None
    return replace(
        codec,
        motion=torch.where(holes, flow.motion, codec.motion),
        references=torch.where(holes, flow.references, codec.references),
    )


def _residual(frame: RawFrame, codec: CodecData, lumas: dict[int, Tensor]) -> Tensor:
    """Compute the residual on the grid, 1 1 h w; 1, the maximum, in cells without a reference."""
    assert codec.motion is not None
    grid = _grid(codec.motion)
    luma = _to_grid(luma_of(frame), grid)
    if not lumas:
        return torch.ones_like(luma)
    assert codec.references is not None
    stride = 1 if frame.image.shape[0] == grid[0] else 4
    predicted, used = warp(lumas, codec.motion / stride, codec.references, "bilinear")
    return torch.where(used, luma - predicted, 1.0)


def _grid(field: Tensor) -> tuple[int, int]:
    return field.shape[-2], field.shape[-1]


def _to_grid(luma: Luma, grid: tuple[int, int]) -> Tensor:
    return torch.from_numpy(on_grid(luma, grid).astype(np.float32) / np.float32(255))[None, None]
