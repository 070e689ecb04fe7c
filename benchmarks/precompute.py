"""Propagates ground-truth masks of a sequence over its B-frames by motion vectors alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from voslab.core import CodecData, RawFrame
from voslab.core.warp import Rounding, Warped, warp
from voslab.data.video_sequence import VideoSequence
from voslab.metrics.region import jaccard
from voslab.video.codec_reader import codec_frames
from voslab.video.motion.intra_fill import Fill, fill_intra_blocks
from voslab.video.motion.optical_flow import luma_of
from voslab.video.motion.rasterise import Cells, rasterise

Still = Literal["no", "nearest", "before"]

HELD = 40
"""Number of frames whose masks are kept; no B-frame refers further back."""


@dataclass(frozen=True)
class Warp:
    """How masks are propagated.

    Attributes:
        rounding: how positions between pixels are read.
        fill: motion of intra pixels; without one, they get no object.
        hard: thresholded after every hop.
        quarter: propagate on a grid of 4 pixels.
        still: source of intra pixels, which are taken to be static: the nearest key frame or the previous one.
    """

    rounding: Rounding = "half_up"
    fill: Fill = "none"
    hard: bool = False
    quarter: bool = False
    still: Still = "no"


@dataclass(frozen=True)
class Stream:
    """Statistics of an encoded file.

    Attributes:
        frames: number of frames, of which `b_frames` are B-frames.
        keys: share of I- and P-frames.
        intra: share of intra pixels in B-frames.
        error: mean over P- and B-frames of the mean absolute difference, in grey levels, to the motion-compensated
            prediction, where there is one, of the codec's luma with its own interpolation and weights.
        plain_error: the same with bilinear interpolation and plain means, in grey of the full range.
    """

    frames: int
    b_frames: int
    keys: float
    intra: float
    error: float
    plain_error: float


@dataclass(frozen=True)
class Scores:
    """Mean J over B-frames and over all frames; without the first and the last frame, as DAVIS has it."""

    b_frames: float
    all_frames: float


def measured(
    sequence: VideoSequence, video: Path, warps: Mapping[str, Warp], exported: bool = False
) -> tuple[Stream, dict[str, Scores]]:
    """Propagate the masks of a sequence over the frames of its video file, which is decoded once.

    `exported` takes every exported vector for one that is used, also the zeros that stand for unused lists.
    """
    with patch("voslab.video.codec_reader.rasterise", _as_exported if exported else rasterise):
        return _measured(sequence, video, warps)


def _as_exported(vectors: NDArray[np.void] | None, size: tuple[int, int]) -> Cells:
    cells = rasterise(vectors, size)
    return replace(cells, whole=np.ones_like(cells.whole))


def _measured(sequence: VideoSequence, video: Path, warps: Mapping[str, Warp]) -> tuple[Stream, dict[str, Scores]]:
    height, width = sequence.image(0).shape[:2]
    kinds = sorted({(warp.fill, warp.quarter) for warp in warps.values()})
    frames, *copies = tee(codec_frames(video, size=(height, width)), len(kinds) + 1)
    fields = [
        fill_intra_blocks(map(_at_quarter, copy) if quarter else copy, fill)
        for copy, (fill, quarter) in zip(copies, kinds, strict=True)
    ]
    tracks = {name: _Track(len(sequence), warp) for name, warp in warps.items()}
    facts: list[_Facts] = []
    lumas: dict[int, Tensor] = {}
    for frame, *group in zip(frames, *fields, strict=True):
        labels = sequence.labels(frame.index)
        assert labels is not None, "DAVIS has a mask for every frame"
        truth = torch.from_numpy(labels > 0)[None, None]
        facts.append(_facts(frame, lumas))
        for track in tracks.values():
            track.put(group[kinds.index((track.warp.fill, track.warp.quarter))], truth)
    return _stream(facts), {name: track.scores() for name, track in tracks.items()}


class _Track:
    """Propagates masks from frame to frame in decoding order."""

    def __init__(self, frames: int, warp: Warp) -> None:
        self.warp = warp
        self._last = frames - 1
        self._masks: dict[int, Tensor] = {}
        self._keys: dict[int, Tensor] = {}
        self._found: list[tuple[bool, float]] = []

    def put(self, frame: RawFrame, truth: Tensor) -> None:
        """Propagate to the next B-frame, or take the ground truth of a key frame; `truth` is 1 1 H W, bool."""
        codec, shown = _codec_data(frame), truth
        if codec.type == "B":
            mask, there = _warp(codec, self._masks, self.warp.rounding, 4 if self.warp.quarter else 1)
            if self.warp.still != "no":
                mask = torch.where(there, mask, self._keys[self._resting(frame.index)])
            mask = (mask > 0.5).float() if self.warp.hard else mask
            height, width = truth.shape[-2:]
            wide = F.interpolate(mask, scale_factor=4, mode="bilinear") if self.warp.quarter else mask
            shown = wide[..., :height, :width] > 0.5
        else:
            mask = truth.float()
            if self.warp.quarter:
                mask = F.avg_pool2d(F.pad(mask, (0, -mask.shape[-1] % 4, 0, -mask.shape[-2] % 4)), 4)
            self._keys = dict([*self._keys.items(), (frame.index, mask)][-3:])
        self._masks = dict([*self._masks.items(), (frame.index, mask)][-HELD:])
        if 0 < frame.index < self._last:
            self._found.append((codec.type == "B", jaccard(shown[0, 0].numpy(), truth[0, 0].numpy())))

    def _resting(self, index: int) -> int:
        """Return the index of the key frame from which intra pixels are taken."""
        before = [key for key in self._keys if key < index] if self.warp.still == "before" else []
        return min(before or self._keys, key=lambda key: (abs(key - index), key))

    def scores(self) -> Scores:
        """Of all that came."""
        return Scores(
            _mean(score for is_b, score in self._found if is_b),
            _mean(score for _, score in self._found),
        )


def _codec_data(frame: RawFrame) -> CodecData:
    assert frame.codec is not None, "`codec_frames` has codec data for every frame"
    return frame.codec


def _warp(codec: CodecData, values: Mapping[int, Tensor], rounding: Rounding, stride: int = 1) -> Warped:
    """Warp values on the grid of the fields, whose cells have `stride` pixels."""
    assert codec.motion is not None
    assert codec.references is not None
    return warp(values, codec.motion / stride, codec.references, rounding)


def _at_quarter(frame: RawFrame) -> RawFrame:
    """Reduce motion and references to a quarter, as `codec_frames` does; the residual is dropped."""
    codec = _codec_data(frame)
    assert codec.motion is not None
    assert codec.references is not None
    motion, references = (field[..., ::4, ::4].contiguous() for field in (codec.motion, codec.references))
    return replace(frame, codec=CodecData(codec.type, motion, references))


@dataclass(frozen=True)
class _Facts:
    """Statistics of a frame: type, share of intra pixels, and errors, which are NaN without predicted pixels."""

    type: str
    intra: float
    error: float
    plain_error: float


def _facts(frame: RawFrame, lumas: dict[int, Tensor]) -> _Facts:
    """Compute the statistics of a frame, and add its luma to those of the frames so far."""
    codec = _codec_data(frame)
    own = torch.from_numpy(luma_of(frame).astype(np.float32))[None, None]
    predicted, there = _warp(codec, lumas, "bilinear") if lumas else (own, torch.zeros_like(own, dtype=torch.bool))
    lumas[frame.index] = own
    while len(lumas) > HELD:
        del lumas[next(iter(lumas))]
    share = there.float().mean().item()
    if not share:
        return _Facts(codec.type, 1.0, float("nan"), float("nan"))
    assert codec.residual is not None
    # The residual is 0 where nothing is predicted.
    error = 255 * codec.residual.abs().mean().item() / share
    return _Facts(codec.type, 1 - share, error, (predicted - own)[there].abs().mean().item())


def _stream(facts: list[_Facts]) -> Stream:
    b_frames = sum(one.type == "B" for one in facts)
    return Stream(
        frames=len(facts),
        b_frames=b_frames,
        keys=1 - b_frames / len(facts),
        intra=_mean(one.intra for one in facts if one.type == "B"),
        error=_mean(one.error for one in facts if one.type != "I"),
        plain_error=_mean(one.plain_error for one in facts if one.type != "I"),
    )


def _mean(values: Iterator[float]) -> float:
    """NaN of none."""
    found = list(values)
    return float(np.mean(found)) if found else float("nan")
