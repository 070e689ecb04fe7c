"""Compensates luma for motion, and finds the references that exported vectors do not name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.video.h264.interpolation import Interpolated, halved
from voslab.video.h264.references import HIDDEN
from voslab.video.motion.rasterise import QUARTERS, Cells, dense

Option = tuple[int, int]
"""Presentation indices of the past and the future reference of a block, `HIDDEN` for none."""


@dataclass(frozen=True, slots=True)
class Compensated:
    """Per cell: `references` 2 h w, int32, -1 where a list is unused; `residual` H W, float32, grey levels, or None."""

    references: NDArray[np.int32]
    residual: NDArray[np.float32] | None


def compensate(
    luma: NDArray[np.uint8],
    cells: Cells,
    lists: Sequence[Sequence[int]],
    frames: Mapping[int, Interpolated],
    *,
    index: int = 0,
    implicit: bool = False,
    residual: bool = True,
) -> Compensated:
    """Find each block's references, and what motion compensation from them leaves.

    A stream's vectors name the list but not the frame. Of the frames in the lists (for bi-prediction, the pairs of
    them) the one whose displaced luma is nearest, by squared difference over the exported block, is the reference; half
    the frame's size is enough to see that.
    An exported zero vector of a part of a macroblock may also stand for an unused list; the same comparison decides.

    Args:
        luma: H W, the frame.
        cells: its motion.
        lists: presentation indices in list 0 and list 1.
        pictures: the references, by presentation index. Those missing (never shown) are no candidates.
        index: presentation index of the frame, for `implicit`.
        implicit: bi-predictions are weighted by distance (H.264, clause 8.4.2.3.1), otherwise plain means.
        residual: compute it; otherwise it is None, and only what is in doubt is compensated.
    """
    known = [[i for i in found if i in frames] or [HIDDEN] for found in lists]
    used = (cells.block >= 0).reshape(2, -1)
    options, allowed = _options(cells, known, used)
    shares = [_future_share(option, index if implicit else None) for option in options]
    doubt = allowed.sum(axis=0) > 1
    chosen = np.where(allowed.any(axis=0), allowed.argmax(axis=0), -1)
    if doubt.any():
        parts = np.where(used[0], cells.block[0].ravel(), cells.block[1].ravel())
        error = _Errors(luma, cells, frames, dict(zip(options, shares, strict=True)))
        chosen[doubt] = _choose(options, allowed[:, doubt], parts[doubt], doubt.nonzero()[0], error)
    references = np.array([*options, (HIDDEN, HIDDEN)], np.int32)[chosen].T
    found = references.reshape(2, *cells.block.shape[1:])
    if not residual:
        return Compensated(found, None)
    own = _in_cells(_whole(luma, cells), cells.side)
    left = _residual(own, cells, references, np.array([*shares, 0.0], np.float32)[chosen], frames)
    height, width = cells.block.shape[1:]
    whole = left.reshape(height, width, cells.side, cells.side).swapaxes(1, 2)
    return Compensated(found, whole.reshape(height * cells.side, -1)[: luma.shape[0], : luma.shape[1]])


class _Errors:
    """How far predictions are from the frame, at half the size; displaced luma is looked up once."""

    def __init__(
        self,
        luma: NDArray[np.uint8],
        cells: Cells,
        frames: Mapping[int, Interpolated],
        shares: Mapping[Option, float],
    ) -> None:
        """`shares`: weight of the second frame of an option."""
        self._cells, self._pictures, self._shares = cells, frames, shares
        self._own = halved(_whole(luma, cells))
        self._places: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._found: dict[tuple[int, int], NDArray[np.float32]] = {}

    def __call__(self, option: Option) -> NDArray[np.float32]:
        """Mean squared error of each cell, n; zero for an option without a frame."""
        parts = [self._of(place, i) for place, i in enumerate(option) if i in self._pictures]
        height, width = self._cells.block.shape[1:]
        if not parts:
            return np.zeros(height * width, np.float32)
        share = self._shares[option]
        left = cv2.addWeighted(parts[0], 1 - share, parts[1], share, 0) if len(parts) > 1 else parts[0]
        means = cv2.resize(cv2.multiply(left, left), (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(means, np.float32).ravel()

    def _of(self, place: int, candidate: int) -> NDArray[np.float32]:
        if place not in self._places:
            self._places[place] = self._displaced(place)
        if (place, candidate) not in self._found:
            displaced = self._pictures[candidate].halved(*self._places[place])
            self._found[place, candidate] = np.subtract(displaced, self._own, out=displaced)
        return self._found[place, candidate]

    def _displaced(self, place: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where in the frame at half its size each of its pixels is to be read: x, y."""
        height, width = self._own.shape
        side = self._cells.side // 2
        motion = self._cells.motion[place].astype(np.float32) / np.float32(2 * QUARTERS)
        x, y = (dense(axis, side, (height, width)) for axis in motion)
        x += np.arange(width, dtype=np.float32)
        y += np.arange(height, dtype=np.float32)[:, None]
        return x, y


def _residual(
    own: NDArray[np.uint8],
    cells: Cells,
    references: NDArray[np.int32],
    shares: NDArray[np.float32],
    frames: Mapping[int, Interpolated],
) -> NDArray[np.float32]:
    """Own luma minus its prediction, n side²; 0 where nothing is predicted. References are 2 n, `shares` n."""
    weights = np.stack([1 - shares, shares])
    total = own.astype(np.float32)
    for place in range(2):
        for candidate in np.unique(references[place]).tolist():
            if candidate in frames:
                (where,) = (references[place] == candidate).nonzero()
                displaced = _displaced(frames[candidate], cells, place, where)
                total[where] -= displaced * weights[place, where, None]
    total[(references == HIDDEN).all(axis=0)] = 0
    return total


def _displaced(frame: Interpolated, cells: Cells, place: int, where: NDArray[np.intp]) -> NDArray[np.uint8]:
    top, left = np.divmod(where, cells.block.shape[2])
    motion = cells.motion[place].reshape(2, -1)[:, where].T
    return frame.cells(cells.side, top * cells.side, left * cells.side, motion)


def _options(
    cells: Cells, known: Sequence[Sequence[int]], used: NDArray[np.bool_]
) -> tuple[list[Option], NDArray[np.bool_]]:
    """All ways to predict a cell, and which of them its vectors allow: options n."""
    both = used[0] & used[1]
    still = ~cells.motion.any(axis=1).reshape(2, -1) & both & ~cells.whole.ravel()
    options: list[Option] = []
    allowed = []
    for past, future in product(known[0], known[1]):
        options.append((past, future))
        allowed.append(both)
    for place in range(2):
        for candidate in known[place]:
            options.append((candidate, HIDDEN) if place == 0 else (HIDDEN, candidate))
            allowed.append(used[place] & ~used[1 - place] | still[1 - place])
    return options, np.array(allowed)


def _choose(
    options: Sequence[Option],
    allowed: NDArray[np.bool_],
    parts: NDArray[np.int32],
    where: NDArray[np.intp],
    error: Callable[[Option], NDArray[np.float32]],
) -> NDArray[np.intp]:
    """Of the cells `where` (n), the option with the least squared error over the exported block each is a part of."""
    _, groups = np.unique(parts, return_inverse=True)
    costs = np.full((len(options), groups.max() + 1), np.inf)
    for place, option in enumerate(options):
        mine = allowed[place]
        if mine.any():
            total = np.bincount(groups[mine], error(option)[where[mine]], costs.shape[1])
            costs[place, groups[mine]] = total[groups[mine]]
    best: NDArray[np.intp] = costs.argmin(axis=0)[groups]
    return best


def _whole(luma: NDArray[np.uint8], cells: Cells) -> NDArray[np.uint8]:
    """Continued to whole cells."""
    height, width = (cells.side * extent for extent in cells.block.shape[1:])
    return np.pad(luma, ((0, height - luma.shape[0]), (0, width - luma.shape[1])), "edge")


def _in_cells(luma: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = luma.shape
    cut: NDArray[np.uint8] = luma.reshape(height // side, side, width // side, side).swapaxes(1, 2)
    return cut.reshape(-1, side * side)


def _future_share(option: Option, index: int | None) -> float:
    """The weight of the second picture: w1 / 64 in H.264, equations 8-197 to 8-202 and 8-280 to 8-283.

    `index` is the frame's, if bi-predictions are weighted by distance.
    """
    past, future = option
    if HIDDEN in option:
        return float(past == HIDDEN)
    if index is None or past == future:
        return 0.5
    between, apart = (max(-128, min(127, frame - past)) for frame in (index, future))
    inverse = int((16384 + abs(int(apart / 2))) / apart)
    scale = max(-1024, min(1023, (between * inverse + 32) >> 6)) >> 2
    return scale / 64 if -64 <= scale <= 128 else 0.5
