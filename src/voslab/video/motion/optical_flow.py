"""Replaces the codec's motion of B-frames with optical flow, for comparison (CoVOS, supplement, Table 4)."""

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
    """Replace the motion of the frames that are propagated, such as B-frames.

    Args:
        frames: frames in decode order.
        motion: source of the motion. `codec` leaves the frames unchanged. `flow` computes dense optical flow (DIS) to
            the nearest key frames before and after the frame, and the residual of this flow. `vectors_as_flow` treats
            the vectors as a flow field, as CoViAR (Wu et al. 2018) does: one vector per pixel, scaled linearly to the
            distance of the previous key frame, zero where there is no vector; the residual is unchanged.

    Yields:
        the frames; key frames are unchanged.
    """
    return iter(frames) if motion == "codec" else _replace_motion(frames, motion)


def optical_flow(frame: Luma, reference: Luma) -> NDArray[np.float32]:
    """Compute dense optical flow with DIS (dense inverse search).

    Args:
        frame: H W.
        reference: H W.

    Returns:
        H W 2, displacement (x, y) in pixels from the frame to the reference.
    """
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow: NDArray[np.float32] = np.asarray(method.calc(frame, reference, None), np.float32)
    return flow


def _replace_motion(frames: Iterable[RawFrame], motion: Motion) -> Iterator[RawFrame]:
    keys: dict[int, Luma] = {}
    for frame in frames:
        codec = frame.codec
        if codec is None or codec.is_key or codec.motion is None:
            # Later B-frames lie between the last two key frames. In an open GOP, a third one precedes them.
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
    """Compute the codec data of a B-frame from optical flow.

    Args:
        frame: the B-frame.
        codec: its codec data, which define the grid.
        references: luma H W of at most one past and one future frame, by presentation index.

    Returns:
        motion, references and residual of the flow, on the same grid.
    """
    assert codec.motion is not None
    grid = (codec.motion.shape[-2], codec.motion.shape[-1])
    luma = luma_of(frame)
    motion = np.zeros((4, *grid), np.float32)
    indices = np.full((2, *grid), -1, np.int32)
    predicted = np.zeros(luma.shape, np.float32)
    for index, reference in references.items():
        which = int(index > frame.index)
        flow = optical_flow(luma, reference)
        motion[2 * which : 2 * which + 2] = on_grid(flow, grid).transpose(2, 0, 1)
        indices[which] = index
        predicted += _warp_luma(reference, flow) / len(references)
    error = on_grid((luma - predicted) / np.float32(255), grid) if references else np.zeros(grid, np.float32)
    motion_field, reference_field = torch.from_numpy(motion[None]), torch.from_numpy(indices[None])
    residual = torch.from_numpy(error[None, None])
    return replace(codec, motion=motion_field, references=reference_field, residual=residual)


def _vectors_as_flow(index: int, codec: CodecData, key: int) -> CodecData:
    """Scale the vectors of frame `index` to the distance of key frame `key` (presentation index; -1: no key frame)."""
    motion, references = codec.motion, codec.references
    assert motion is not None
    assert references is not None
    distance = references.float() - index
    scaled = [
        motion[:, 2 * which : 2 * which + 2] * _ratio(distance[:, which : which + 1], key - index) for which in range(2)
    ]
    used = references >= 0
    flow = torch.where(used[:, :1], scaled[0], torch.where(used[:, 1:], scaled[1], 0.0))
    new_references = torch.full_like(references, -1)
    new_references[:, int(key > index)] = key
    fields = [torch.zeros_like(flow), torch.zeros_like(flow)]
    fields[int(key > index)] = flow * (key >= 0)
    return replace(codec, motion=torch.cat(fields, 1), references=new_references)


def _ratio(distance: Tensor, target: int) -> Tensor:
    return target / torch.where(distance == 0, 1.0, distance)


def _warp_luma(reference: Luma, flow: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = reference.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    warped = cv2.remap(reference, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.float32)


def on_grid(field: NDArray, grid: tuple[int, int]) -> NDArray[np.float32]:
    """Average a field over cells of 4 x 4 pixels, unless it has the size of the grid.

    Args:
        field: H W ….
        grid: h, w of the result.

    Returns:
        h w ….
    """
    height, width = field.shape[:2]
    if (height, width) == grid:
        return field
    padded = cv2.copyMakeBorder(field, 0, -height % 4, 0, -width % 4, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(padded, (grid[1], grid[0]), interpolation=cv2.INTER_AREA), np.float32)


def luma_of(frame: RawFrame) -> Luma:
    """Convert a frame to luma H W, full range."""
    return np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), np.uint8)
