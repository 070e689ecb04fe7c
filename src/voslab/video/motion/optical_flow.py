"""Replaces the codec's motion with optical flow, for comparison (CoVOS, supplement, Table 4).

Key frames keep what the codec says of them; of B-frames, type, frame and grid stay.
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

from voslab.core import CodecData, RawFrame

Motion = Literal["codec", "flow", "vectors_as_flow"]
MOTIONS: tuple[Motion, ...] = get_args(Motion)
Luma = NDArray[np.uint8]


def replace_motion(frames: Iterable[RawFrame], motion: Motion) -> Iterator[RawFrame]:
    """Replace the motion of B-frames; frames come in decode order.

    `codec` leaves them as they are. `flow` is dense optical flow (DIS) to the nearest key frames before and behind the
    frame; the residual is what such flow leaves. `vectors_as_flow` takes vectors for a flow field, as CoViAR (Wu et al.
    2018) does: one vector a pixel, stretched to the distance of the key frame before the frame as if everything moved
    steadily, no motion where there is no vector; the residual stays the codec's.
    """
    return iter(frames) if motion == "codec" else _changed(frames, motion)


def optical_flow(frame: Luma, reference: Luma) -> NDArray[np.float32]:
    """Dense inverse search, H W 2 (x, y): where in the reference each pixel of the frame is, less its position."""
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found: NDArray[np.float32] = np.asarray(method.calc(frame, reference, None), np.float32)
    return found


def _changed(frames: Iterable[RawFrame], motion: Motion) -> Iterator[RawFrame]:
    keys: dict[int, Luma] = {}
    for frame in frames:
        codec = frame.codec
        if codec is None or codec.type != "B" or codec.motion is None:
            # Of the key frames so far, two lie around any B-frame that still comes; open GOPs begin with a third.
            keys = dict(sorted(keys.items())[-2:]) | {frame.index: luma_of(frame)}
            yield frame
            continue
        past = max((index for index in keys if index < frame.index), default=-1)
        future = min((index for index in keys if index > frame.index), default=-1)
        if motion == "flow":
            yield replace(frame, codec=motion_from_flow(frame, codec, {i: keys[i] for i in (past, future) if i >= 0}))
        else:
            yield replace(frame, codec=_vectors_as_flow(frame.index, codec, past if past >= 0 else future))


def motion_from_flow(frame: RawFrame, codec: CodecData, references: dict[int, Luma]) -> CodecData:
    """Side data of a B-frame, on the grid of `coded`, by flow to frames of these presentation indices."""
    assert codec.motion is not None
    grid = (codec.motion.shape[-2], codec.motion.shape[-1])
    luma = luma_of(frame)
    motion = np.zeros((4, *grid), np.float32)
    named = np.full((2, *grid), -1, np.int32)
    predicted = np.zeros(luma.shape, np.float32)
    for index, reference in references.items():
        place = int(index > frame.index)
        flow = optical_flow(luma, reference)
        motion[2 * place : 2 * place + 2] = on_grid(flow, grid).transpose(2, 0, 1)
        named[place] = index
        predicted += _displaced(reference, flow) / len(references)
    left = on_grid((luma - predicted) / np.float32(255), grid) if references else np.zeros(grid, np.float32)
    vectors, indices, residual = (torch.from_numpy(field[None]) for field in (motion, named, left[None]))
    return CodecData("B", vectors, indices, residual, codec.live_refs)


def _vectors_as_flow(index: int, codec: CodecData, key: int) -> CodecData:
    """`key` is the presentation index of the key frame that all vectors shall lead to; -1 for none."""
    motion, references = codec.motion, codec.references
    assert motion is not None
    assert references is not None
    distance = references.float() - index
    stretched = [
        motion[:, 2 * place : 2 * place + 2] * _ratio(distance[:, place : place + 1], key - index) for place in range(2)
    ]
    used = references >= 0
    one = torch.where(used[:, :1], stretched[0], torch.where(used[:, 1:], stretched[1], 0.0))
    named = torch.full_like(references, -1)
    named[:, int(key > index)] = key
    fields = [torch.zeros_like(one), torch.zeros_like(one)]
    fields[int(key > index)] = one * (key >= 0)
    return replace(codec, motion=torch.cat(fields, 1), references=named)


def _ratio(distance: Tensor, wanted: int) -> Tensor:
    return wanted / torch.where(distance == 0, 1.0, distance)


def _displaced(reference: Luma, flow: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = reference.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(reference, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.float32)


def on_grid(field: NDArray, grid: tuple[int, int]) -> NDArray[np.float32]:
    """H W … as it is where that is the grid, or the mean per cell of 4 x 4 pixels."""
    height, width = field.shape[:2]
    if (height, width) == grid:
        return field
    whole = cv2.copyMakeBorder(field, 0, -height % 4, 0, -width % 4, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(whole, (grid[1], grid[0]), interpolation=cv2.INTER_AREA), np.float32)


def luma_of(frame: RawFrame) -> Luma:
    """H W, full range."""
    return np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), np.uint8)
