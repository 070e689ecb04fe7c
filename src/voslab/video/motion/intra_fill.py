"""Estimates motion for intra blocks of B-frames.

Intra blocks stand where the codec found no match that was worth its bits, often fast objects; masks that are propagated
by vectors alone have holes there.
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
"""Cells on a side within which a fit is judged."""

_HELD = 40
"""Frames; no B-frame refers further back."""


class _Held:
    """Luma of the frames so far: on the grid of the fields of all that may be referred to, whole of key frames."""

    def __init__(self) -> None:
        self.small: dict[int, Tensor] = {}
        self.keys: dict[int, Luma] = {}

    def add(self, frame: RawFrame, grid: tuple[int, int] | None, whole: bool) -> None:
        luma = luma_of(frame)
        if grid is not None:
            self.small = dict([*self.small.items(), (frame.index, _small(luma, grid))][-_HELD:])
        if whole and (frame.codec is None or frame.codec.type != "B"):
            self.keys = dict(sorted(self.keys.items())[-2:]) | {frame.index: luma}


def fill_intra_blocks(frames: Iterable[RawFrame], fill: Fill) -> Iterator[RawFrame]:
    """Fill in motion for the intra blocks of B-frames; frames come in decode order.

    `nearest` takes vectors and references of the nearest cell that has some; `matched` those of the nearest on any side
    that fit the frame best; `flow` optical flow to the nearest key
    frames around the frame. There, the residual is what they leave; elsewhere all stays as it is.
    """
    return iter(frames) if fill == "none" else _filled(frames, fill)


def _filled(frames: Iterable[RawFrame], fill: Fill) -> Iterator[RawFrame]:
    held = _Held()
    for frame in frames:
        codec = frame.codec
        if codec is None or codec.motion is None or codec.references is None:
            held.add(frame, None, fill == "flow")
            yield frame
            continue
        if codec.type == "B":
            holes = (codec.references < 0).all(1, keepdim=True)
            if holes.any() and (fill == "flow" or not holes.all()):
                filled = _fill(frame, codec, holes, held, fill)
                if codec.residual is not None:
                    left = _left(frame, filled, held.small)
                    filled = replace(filled, residual=torch.where(holes, left, codec.residual))
                frame = replace(frame, codec=filled)
        held.add(frame, _grid(codec.motion), fill == "flow")
        yield frame


def _fill(frame: RawFrame, codec: CodecData, holes: Tensor, held: _Held, fill: Fill) -> CodecData:
    if fill == "nearest":
        return _nearest(codec, holes)
    if fill == "matched":
        return _matched(frame, codec, holes, held.small)
    return _fill_from_flow(frame, codec, holes, held.keys)


def _nearest(codec: CodecData, holes: Tensor) -> CodecData:
    """With the motion of the nearest cell that has some."""
    missing = holes[0, 0].numpy().astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(missing, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    # Labels number the cells that are there; which cell has which number is in the labels of those cells themselves.
    there = np.flatnonzero(missing == 0)
    place = np.zeros(int(labels.max()) + 1, np.int64)
    place[np.asarray(labels).ravel()[there]] = there
    return _taken(codec, place[np.asarray(labels)])


def _matched(frame: RawFrame, codec: CodecData, holes: Tensor, lumas: dict[int, Tensor]) -> CodecData:
    """Of the nearest cells around (all in all, and in each direction), with the motion whose luma fits best."""
    candidates = [_nearest(codec, holes), *(_taken(codec, source) for source in _directions(~holes[0, 0].numpy()))]
    errors = []
    for candidate in candidates:
        left = _left(frame, candidate, lumas)
        errors.append(F.avg_pool2d(left.abs(), _WINDOW, 1, _WINDOW // 2, count_include_pad=False))
    best = torch.stack(errors).argmin(0)
    motion, references = codec.motion, codec.references
    for place, candidate in enumerate(candidates):
        here = holes & (best == place)
        assert motion is not None
        assert references is not None
        assert candidate.motion is not None
        assert candidate.references is not None
        motion = torch.where(here, candidate.motion, motion)
        references = torch.where(here, candidate.references, references)
    return replace(codec, motion=motion, references=references)


def _directions(there: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """For each cell h w, flat, the nearest that is there on the left, on the right, above and below; else itself."""
    own = np.arange(there.size).reshape(there.shape)
    for axis in (1, 0):
        for turned in (slice(None), slice(None, None, -1)):
            turn = (slice(None),) * axis + (turned,)
            steps = np.arange(there.shape[axis]).reshape((-1,) if axis else (-1, 1))
            last = np.maximum.accumulate(np.where(there[turn], steps, -1), axis=axis)
            found = np.take_along_axis(own[turn], np.maximum(last, 0), axis=axis)
            yield np.where(last >= 0, found, own[turn])[turn]


def _taken(codec: CodecData, source: NDArray[np.int64]) -> CodecData:
    """Motion and references of other cells, h w flat."""
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
    around = (
        max((index for index in keys if index < frame.index), default=-1),
        min((index for index in keys if index > frame.index), default=-1),
    )
    flow = motion_from_flow(frame, codec, {index: keys[index] for index in around if index >= 0})
    assert codec.motion is not None
    assert codec.references is not None
    assert flow.motion is not None
    assert flow.references is not None
    return replace(
        codec,
        motion=torch.where(holes, flow.motion, codec.motion),
        references=torch.where(holes, flow.references, codec.references),
    )


def _left(frame: RawFrame, codec: CodecData, lumas: dict[int, Tensor]) -> Tensor:
    """What motion compensation leaves on the grid, 1 1 h w; as much as can be where there is none."""
    assert codec.motion is not None
    grid = _grid(codec.motion)
    own = _small(luma_of(frame), grid)
    if not lumas:
        return torch.ones_like(own)
    assert codec.references is not None
    stride = 1 if frame.image.shape[0] == grid[0] else 4
    predicted, used = warp(lumas, codec.motion / stride, codec.references, "bilinear")
    return torch.where(used, own - predicted, 1.0)


def _grid(field: Tensor) -> tuple[int, int]:
    return field.shape[-2], field.shape[-1]


def _small(luma: Luma, grid: tuple[int, int]) -> Tensor:
    return torch.from_numpy(on_grid(luma, grid).astype(np.float32) / np.float32(255))[None, None]
