"""Motion for the blocks of B-frames that the codec predicted from nothing.

Intra blocks stand where the codec found no match that was worth its bits, often fast objects; masks that are carried
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

from voslab.core import Coded, Picture
from voslab.video.motion.optical_flow import Luma, by_flow, luma_of, on_grid
from voslab.video.motion.warp import carried

Fill = Literal["none", "nearest", "matched", "flow"]
FILLS: tuple[Fill, ...] = get_args(Fill)

_WINDOW = 5
"""Cells on a side within which a fit is judged."""

_HELD = 40
"""Pictures; no B-frame refers further back."""


class _Held:
    """Luma of the pictures so far: on the grid of the fields of all that may be referred to, whole of key frames."""

    def __init__(self) -> None:
        self.small: dict[int, Tensor] = {}
        self.keys: dict[int, Luma] = {}

    def add(self, picture: Picture, grid: tuple[int, int] | None, whole: bool) -> None:
        luma = luma_of(picture)
        if grid is not None:
            self.small = dict([*self.small.items(), (picture.index, _small(luma, grid))][-_HELD:])
        if whole and (picture.coded is None or picture.coded.type != "B"):
            self.keys = dict(sorted(self.keys.items())[-2:]) | {picture.index: luma}


def with_fill(pictures: Iterable[Picture], fill: Fill) -> Iterator[Picture]:
    """Pictures in decode order whose B-frames have motion everywhere.

    `nearest` takes vectors and references of the nearest cell that has some; `matched` those of the nearest on any side
    that fit the picture best; `flow` optical flow to the nearest key
    frames around the frame. There, the residual is what they leave; elsewhere all stays as it is.
    """
    return iter(pictures) if fill == "none" else _filled(pictures, fill)


def _filled(pictures: Iterable[Picture], fill: Fill) -> Iterator[Picture]:
    held = _Held()
    for picture in pictures:
        coded = picture.coded
        if coded is None or coded.motion is None or coded.references is None:
            held.add(picture, None, fill == "flow")
            yield picture
            continue
        if coded.type == "B":
            holes = (coded.references < 0).all(1, keepdim=True)
            if holes.any() and (fill == "flow" or not holes.all()):
                filled = _fill(picture, coded, holes, held, fill)
                if coded.residual is not None:
                    left = _left(picture, filled, held.small)
                    filled = replace(filled, residual=torch.where(holes, left, coded.residual))
                picture = replace(picture, coded=filled)
        held.add(picture, _grid(coded.motion), fill == "flow")
        yield picture


def _fill(picture: Picture, coded: Coded, holes: Tensor, held: _Held, fill: Fill) -> Coded:
    if fill == "nearest":
        return _nearest(coded, holes)
    if fill == "matched":
        return _matched(picture, coded, holes, held.small)
    return _by_flow(picture, coded, holes, held.keys)


def _nearest(coded: Coded, holes: Tensor) -> Coded:
    """With the motion of the nearest cell that has some."""
    missing = holes[0, 0].numpy().astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(missing, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    # Labels number the cells that are there; which cell has which number is in the labels of those cells themselves.
    there = np.flatnonzero(missing == 0)
    place = np.zeros(int(labels.max()) + 1, np.int64)
    place[np.asarray(labels).ravel()[there]] = there
    return _taken(coded, place[np.asarray(labels)])


def _matched(picture: Picture, coded: Coded, holes: Tensor, lumas: dict[int, Tensor]) -> Coded:
    """Of the nearest cells around (all in all, and in each direction), with the motion whose luma fits best."""
    candidates = [_nearest(coded, holes), *(_taken(coded, source) for source in _directions(~holes[0, 0].numpy()))]
    errors = []
    for candidate in candidates:
        left = _left(picture, candidate, lumas)
        errors.append(F.avg_pool2d(left.abs(), _WINDOW, 1, _WINDOW // 2, count_include_pad=False))
    best = torch.stack(errors).argmin(0)
    motion, references = coded.motion, coded.references
    for place, candidate in enumerate(candidates):
        here = holes & (best == place)
        assert motion is not None
        assert references is not None
        assert candidate.motion is not None
        assert candidate.references is not None
        motion = torch.where(here, candidate.motion, motion)
        references = torch.where(here, candidate.references, references)
    return replace(coded, motion=motion, references=references)


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


def _taken(coded: Coded, source: NDArray[np.int64]) -> Coded:
    """Motion and references of other cells, h w flat."""
    motion, references = coded.motion, coded.references
    assert motion is not None
    assert references is not None
    index = torch.from_numpy(np.ascontiguousarray(source).ravel())
    return replace(
        coded,
        motion=motion.flatten(2)[..., index].view_as(motion),
        references=references.flatten(2)[..., index].view_as(references),
    )


def _by_flow(picture: Picture, coded: Coded, holes: Tensor, keys: dict[int, Luma]) -> Coded:
    around = (
        max((index for index in keys if index < picture.index), default=-1),
        min((index for index in keys if index > picture.index), default=-1),
    )
    flow = by_flow(picture, coded, {index: keys[index] for index in around if index >= 0})
    assert coded.motion is not None
    assert coded.references is not None
    assert flow.motion is not None
    assert flow.references is not None
    return replace(
        coded,
        motion=torch.where(holes, flow.motion, coded.motion),
        references=torch.where(holes, flow.references, coded.references),
    )


def _left(picture: Picture, coded: Coded, lumas: dict[int, Tensor]) -> Tensor:
    """What motion compensation leaves on the grid, 1 1 h w; as much as can be where there is none."""
    assert coded.motion is not None
    grid = _grid(coded.motion)
    own = _small(luma_of(picture), grid)
    if not lumas:
        return torch.ones_like(own)
    predicted, there = carried(coded, lumas, "bilinear", 1 if picture.image.shape[0] == grid[0] else 4)
    return torch.where(there, own - predicted, 1.0)


def _grid(field: Tensor) -> tuple[int, int]:
    return field.shape[-2], field.shape[-1]


def _small(luma: Luma, grid: tuple[int, int]) -> Tensor:
    return torch.from_numpy(on_grid(luma, grid).astype(np.float32) / np.float32(255))[None, None]
