"""Ground-truth masks of a sequence, carried over its B-frames by nothing but vectors."""

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
from voslab.data.video_sequence import Sequence
from voslab.metrics.region import jaccard
from voslab.video.codec_reader import codec_frames
from voslab.video.motion.intra_fill import Fill, with_fill
from voslab.video.motion.optical_flow import luma_of
from voslab.video.motion.rasterise import Cells, rasterise
from voslab.video.motion.warp import Sampling, carried

Still = Literal["no", "nearest", "before"]

HELD = 40
"""Pictures whose masks are kept; no B-frame refers further back."""


@dataclass(frozen=True)
class Warp:
    """How masks are carried.

    Attributes:
        sampling: between pixels.
        fill: of pixels that nothing predicts, with motion; without, they are nothing.
        hard: thresholded after every hop.
        quarter: on a grid of 4 pixels.
        still: what nothing predicts is what a key frame shows there, as if it had not moved: the nearest one, or the
            one before.
    """

    sampling: Sampling = "nearest"
    fill: Fill = "none"
    hard: bool = False
    quarter: bool = False
    still: Still = "no"


@dataclass(frozen=True)
class Stream:
    """What a file is like.

    Attributes:
        frames: how many, and `b_frames` of them.
        keys: share of I- and P-frames.
        intra: share of the B-frames' pixels that nothing predicts.
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
    sequence: Sequence, video: Path, warps: Mapping[str, Warp], exported: bool = False
) -> tuple[Stream, dict[str, Scores]]:
    """Carry the masks of a sequence over the pictures of a video file of it, which is decoded once.

    `exported` takes every exported vector for one that is used, also the zeros that stand for unused lists.
    """
    with patch("voslab.video.codec_reader.rasterise", _as_exported if exported else rasterise):
        return _measured(sequence, video, warps)


def _as_exported(vectors: NDArray[np.void] | None, size: tuple[int, int]) -> Cells:
    cells = rasterise(vectors, size)
    return replace(cells, whole=np.ones_like(cells.whole))


def _measured(sequence: Sequence, video: Path, warps: Mapping[str, Warp]) -> tuple[Stream, dict[str, Scores]]:
    height, width = sequence.image(0).shape[:2]
    kinds = sorted({(warp.fill, warp.quarter) for warp in warps.values()})
    pictures, *copies = tee(codec_frames(video, size=(height, width)), len(kinds) + 1)
    fields = [
        with_fill(map(_at_quarter, copy) if quarter else copy, fill)
        for copy, (fill, quarter) in zip(copies, kinds, strict=True)
    ]
    tracks = {name: _Track(len(sequence), warp) for name, warp in warps.items()}
    facts: list[_Facts] = []
    lumas: dict[int, Tensor] = {}
    for picture, *group in zip(pictures, *fields, strict=True):
        labels = sequence.labels(picture.index)
        assert labels is not None, "DAVIS has a mask for every frame"
        truth = torch.from_numpy(labels > 0)[None, None]
        facts.append(_facts(picture, lumas))
        for track in tracks.values():
            track.put(group[kinds.index((track.warp.fill, track.warp.quarter))], truth)
    return _stream(facts), {name: track.scores() for name, track in tracks.items()}


class _Track:
    """Masks on their way from picture to picture, which come in decoding order."""

    def __init__(self, frames: int, warp: Warp) -> None:
        self.warp = warp
        self._last = frames - 1
        self._masks: dict[int, Tensor] = {}
        self._keys: dict[int, Tensor] = {}
        self._found: list[tuple[bool, float]] = []

    def put(self, picture: RawFrame, truth: Tensor) -> None:
        """Carry to, or give on, the next picture; `truth` 1 1 H W, bool."""
        codec, shown = _coded(picture), truth
        if codec.type == "B":
            mask, there = carried(codec, self._masks, self.warp.sampling, 4 if self.warp.quarter else 1)
            if self.warp.still != "no":
                mask = torch.where(there, mask, self._keys[self._resting(picture.index)])
            mask = (mask > 0.5).float() if self.warp.hard else mask
            height, width = truth.shape[-2:]
            wide = F.interpolate(mask, scale_factor=4, mode="bilinear") if self.warp.quarter else mask
            shown = wide[..., :height, :width] > 0.5
        else:
            mask = truth.float()
            if self.warp.quarter:
                mask = F.avg_pool2d(F.pad(mask, (0, -mask.shape[-1] % 4, 0, -mask.shape[-2] % 4)), 4)
            self._keys = dict([*self._keys.items(), (picture.index, mask)][-3:])
        self._masks = dict([*self._masks.items(), (picture.index, mask)][-HELD:])
        if 0 < picture.index < self._last:
            self._found.append((codec.type == "B", jaccard(shown[0, 0].numpy(), truth[0, 0].numpy())))

    def _resting(self, index: int) -> int:
        """Which key frame stands for a picture where nothing predicts it."""
        before = [key for key in self._keys if key < index] if self.warp.still == "before" else []
        return min(before or self._keys, key=lambda key: (abs(key - index), key))

    def scores(self) -> Scores:
        """Of all that came."""
        return Scores(
            _mean(score for is_b, score in self._found if is_b),
            _mean(score for _, score in self._found),
        )


def _coded(picture: RawFrame) -> CodecData:
    assert picture.codec is not None, "`coded_pictures` has side data for every picture"
    return picture.codec


def _at_quarter(picture: RawFrame) -> RawFrame:
    """As `coded_pictures` would give it at a quarter, less the residual, which carries nothing."""
    codec = _coded(picture)
    assert codec.motion is not None
    assert codec.references is not None
    motion, references = (field[..., ::4, ::4].contiguous() for field in (codec.motion, codec.references))
    return replace(picture, codec=CodecData(codec.type, motion, references))


@dataclass(frozen=True)
class _Facts:
    """Of a picture: type, share of pixels that nothing predicts, and errors; NaN where nothing is predicted."""

    type: str
    intra: float
    error: float
    plain_error: float


def _facts(picture: RawFrame, lumas: dict[int, Tensor]) -> _Facts:
    """`lumas` are those of the pictures so far; this one joins them."""
    codec = _coded(picture)
    own = torch.from_numpy(luma_of(picture).astype(np.float32))[None, None]
    predicted, there = carried(codec, lumas, "bilinear") if lumas else (own, torch.zeros_like(own, dtype=torch.bool))
    lumas[picture.index] = own
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
