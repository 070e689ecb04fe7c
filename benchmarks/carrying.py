"""Ground-truth masks of a sequence, carried over its B-frames by nothing but vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from src.core import Coded, Picture
from src.data.sequence import Sequence
from src.metrics.region import jaccard
from src.video.coded import coded_pictures
from src.video.fill import Fill, with_fill
from src.video.warp import Sampling, carried

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
        still: what nothing predicts is what the nearest key frame shows there, as if it had not moved.
    """

    sampling: Sampling = "nearest"
    fill: Fill = "none"
    hard: bool = False
    quarter: bool = False
    still: bool = False


@dataclass(frozen=True)
class Stream:
    """What a file is like.

    Attributes:
        frames: how many, and `b_frames` of them.
        keys: share of I- and P-frames.
        intra: share of the B-frames' pixels that nothing predicts.
        error: mean over P- and B-frames of the mean absolute difference, in grey levels, to the motion-compensated
            prediction, where there is one.
    """

    frames: int
    b_frames: int
    keys: float
    intra: float
    error: float


@dataclass(frozen=True)
class Scores:
    """Mean J over B-frames and over all frames; without the first and the last frame, as DAVIS has it."""

    b_frames: float
    all_frames: float


def measured(sequence: Sequence, video: Path, warps: Mapping[str, Warp]) -> tuple[Stream, dict[str, Scores]]:
    """Carry the masks of a sequence over the pictures of a video file of it, which is decoded once."""
    height, width = sequence.image(0).shape[:2]
    kinds = sorted({(warp.fill, warp.quarter) for warp in warps.values()})
    pictures, *copies = tee(coded_pictures(video, size=(height, width)), len(kinds) + 1)
    fields = [
        with_fill(map(_at_quarter, copy) if quarter else copy, fill)
        for copy, (fill, quarter) in zip(copies, kinds, strict=True)
    ]
    tracks = {name: _Track(len(sequence), warp) for name, warp in warps.items()}
    facts = []
    for picture, *group in zip(pictures, *fields, strict=True):
        labels = sequence.labels(picture.index)
        assert labels is not None, "DAVIS has a mask for every frame"
        truth = torch.from_numpy(labels > 0)[None, None]
        facts.append(_facts(_coded(picture)))
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

    def put(self, picture: Picture, truth: Tensor) -> None:
        """Carry to, or give on, the next picture; `truth` 1 1 H W, bool."""
        coded, shown = _coded(picture), truth
        if coded.type == "B":
            mask, there = carried(coded, self._masks, self.warp.sampling, 4 if self.warp.quarter else 1)
            if self.warp.still:
                nearest = min(self._keys, key=lambda index: (abs(index - picture.index), index))
                mask = torch.where(there, mask, self._keys[nearest])
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
            self._found.append((coded.type == "B", jaccard(shown[0, 0].numpy(), truth[0, 0].numpy())))

    def scores(self) -> Scores:
        """Of all that came."""
        return Scores(
            _mean(score for is_b, score in self._found if is_b),
            _mean(score for _, score in self._found),
        )


def _coded(picture: Picture) -> Coded:
    assert picture.coded is not None, "`coded_pictures` has side data for every picture"
    return picture.coded


def _at_quarter(picture: Picture) -> Picture:
    """As `coded_pictures` would give it at a quarter, less the residual, which carries nothing."""
    coded = _coded(picture)
    assert coded.motion is not None
    assert coded.references is not None
    motion, references = (field[..., ::4, ::4].contiguous() for field in (coded.motion, coded.references))
    return replace(picture, coded=Coded(coded.type, motion, references))


def _facts(coded: Coded) -> tuple[str, float, float]:
    """Type, share of pixels that nothing predicts, and error; NaN where nothing is predicted."""
    assert coded.references is not None
    assert coded.residual is not None
    predicted = (coded.references.amax(1, keepdim=True) >= 0).float()
    share = predicted.mean().item()
    # The residual is 0 where nothing is predicted.
    return coded.type, 1 - share, 255 * coded.residual.abs().mean().item() / share if share else float("nan")


def _stream(facts: list[tuple[str, float, float]]) -> Stream:
    b_frames = sum(kind == "B" for kind, _, _ in facts)
    return Stream(
        frames=len(facts),
        b_frames=b_frames,
        keys=1 - b_frames / len(facts),
        intra=_mean(intra for kind, intra, _ in facts if kind == "B"),
        error=_mean(error for kind, _, error in facts if kind != "I"),
    )


def _mean(values: Iterator[float]) -> float:
    """NaN of none."""
    found = list(values)
    return float(np.mean(found)) if found else float("nan")
