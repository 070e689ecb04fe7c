"""Computes motion-compensated residuals, and infers the references of motion vectors."""

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
    """Result of `compensate`.

    Attributes:
        references: 2 h w, int32: presentation indices per cell and list; -1 where a list is unused.
        residual: H W, float32, in grey levels; None if it was not computed.
    """

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
    """Infer the references of each block, and compute the residual of the prediction from them.

    Exported vectors name the list but not the frame. The reference is the frame in the list (for bi-prediction, the
    pair of frames) whose displaced luma has the smallest squared difference over the exported block, at half the
    resolution. A zero vector of a part of a macroblock may stand for an unused list; the same comparison decides.

    Args:
        luma: H W, the frame.
        cells: motion of the frame.
        lists: presentation indices in list 0 and list 1.
        frames: reference frames by presentation index. Frames that are missing (never shown) are no candidates.
        index: presentation index of the frame, for `implicit`.
        implicit: whether bi-predictions are weighted by distance (H.264, clause 8.4.2.3.1); otherwise they are means.
        residual: whether to compute the residual. Without it, only ambiguous blocks are compensated.

    Returns:
        the references and the residual.
    """
    candidates = [[i for i in indices if i in frames] or [HIDDEN] for indices in lists]
    used = (cells.block >= 0).reshape(2, -1)
    options, allowed = _options(cells, candidates, used)
    weights = [_future_weight(option, index if implicit else None) for option in options]
    ambiguous = allowed.sum(axis=0) > 1
    chosen = np.where(allowed.any(axis=0), allowed.argmax(axis=0), -1)
    if ambiguous.any():
        blocks = np.where(used[0], cells.block[0].ravel(), cells.block[1].ravel())
        error = _PredictionError(luma, cells, frames, dict(zip(options, weights, strict=True)))
        (where,) = ambiguous.nonzero()
        chosen[ambiguous] = _choose(options, allowed[:, ambiguous], blocks[ambiguous], where, error)
    flat = np.array([*options, (HIDDEN, HIDDEN)], np.int32)[chosen].T
    references = flat.reshape(2, *cells.block.shape[1:])
    if not residual:
        return Compensated(references, None)
    pixels = _split_into_cells(_pad_to_cells(luma, cells), cells.side)
    difference = _residual(pixels, cells, flat, np.array([*weights, 0.0], np.float32)[chosen], frames)
    height, width = cells.block.shape[1:]
    image = difference.reshape(height, width, cells.side, cells.side).swapaxes(1, 2)
    return Compensated(references, image.reshape(height * cells.side, -1)[: luma.shape[0], : luma.shape[1]])


class _PredictionError:
    """Computes the error of predictions at half the resolution; differences are cached by list and reference.

    Args:
        luma: H W, the frame.
        cells: motion of the frame.
        frames: reference frames by presentation index.
        weights: weight of the future reference, by option.
    """

    def __init__(
        self,
        luma: NDArray[np.uint8],
        cells: Cells,
        frames: Mapping[int, Interpolated],
        weights: Mapping[Option, float],
    ) -> None:
        self._cells, self._frames, self._weights = cells, frames, weights
        self._target = halved(_pad_to_cells(luma, cells))
        self._positions: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._differences: dict[tuple[int, int], NDArray[np.float32]] = {}

    def __call__(self, option: Option) -> NDArray[np.float32]:
        """Return the mean squared error of each cell, n; zero for an option without a frame."""
        differences = [self._difference(which, i) for which, i in enumerate(option) if i in self._frames]
        height, width = self._cells.block.shape[1:]
        if not differences:
            return np.zeros(height * width, np.float32)
        weight = self._weights[option]
        total = differences[0]
        if len(differences) > 1:
            total = cv2.addWeighted(total, 1 - weight, differences[1], weight, 0)
        means = cv2.resize(cv2.multiply(total, total), (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(means, np.float32).ravel()

    def _difference(self, which: int, reference: int) -> NDArray[np.float32]:
        if which not in self._positions:
            self._positions[which] = self._read_positions(which)
        if (which, reference) not in self._differences:
            displaced = self._frames[reference].halved(*self._positions[which])
            self._differences[which, reference] = np.subtract(displaced, self._target, out=displaced)
        return self._differences[which, reference]

    def _read_positions(self, which: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the positions x, y in a reference at half the resolution that each pixel is read from."""
        height, width = self._target.shape
        side = self._cells.side // 2
        motion = self._cells.motion[which].astype(np.float32) / np.float32(2 * QUARTERS)
        x, y = (dense(axis, side, (height, width)) for axis in motion)
        x += np.arange(width, dtype=np.float32)
        y += np.arange(height, dtype=np.float32)[:, None]
        return x, y


def _residual(
    pixels: NDArray[np.uint8],
    cells: Cells,
    references: NDArray[np.int32],
    future_weights: NDArray[np.float32],
    frames: Mapping[int, Interpolated],
) -> NDArray[np.float32]:
    """Subtract the prediction from the pixels of each cell.

    Args:
        pixels: n side², luma of the frame.
        cells: motion of the frame.
        references: 2 n, presentation indices.
        future_weights: n, weight of the future reference.
        frames: reference frames by presentation index.

    Returns:
        n side²; 0 in cells without a reference.
    """
    weights = np.stack([1 - future_weights, future_weights])
    total = pixels.astype(np.float32)
    for which in range(2):
        for reference in np.unique(references[which]).tolist():
            if reference in frames:
                (where,) = (references[which] == reference).nonzero()
                displaced = _read_displaced(frames[reference], cells, which, where)
                total[where] -= displaced * weights[which, where, None]
    total[(references == HIDDEN).all(axis=0)] = 0
    return total


def _read_displaced(frame: Interpolated, cells: Cells, which: int, where: NDArray[np.intp]) -> NDArray[np.uint8]:
    top, left = np.divmod(where, cells.block.shape[2])
    motion = cells.motion[which].reshape(2, -1)[:, where].T
    return frame.cells(cells.side, top * cells.side, left * cells.side, motion)


def _options(
    cells: Cells, candidates: Sequence[Sequence[int]], used: NDArray[np.bool_]
) -> tuple[list[Option], NDArray[np.bool_]]:
    """List all options to predict a cell, and which of them its vectors allow: options n."""
    both = used[0] & used[1]
    zero = ~cells.motion.any(axis=1).reshape(2, -1) & both & ~cells.whole.ravel()
    options: list[Option] = []
    allowed = []
    for past, future in product(candidates[0], candidates[1]):
        options.append((past, future))
        allowed.append(both)
    for which in range(2):
        for candidate in candidates[which]:
            options.append((candidate, HIDDEN) if which == 0 else (HIDDEN, candidate))
            allowed.append(used[which] & ~used[1 - which] | zero[1 - which])
    return options, np.array(allowed)


def _choose(
    options: Sequence[Option],
    allowed: NDArray[np.bool_],
    blocks: NDArray[np.int32],
    where: NDArray[np.intp],
    error: Callable[[Option], NDArray[np.float32]],
) -> NDArray[np.intp]:
    """Choose for n cells at `where` the allowed option with the least squared error over the block of the cell."""
    _, groups = np.unique(blocks, return_inverse=True)
    costs = np.full((len(options), groups.max() + 1), np.inf)
    for row, option in enumerate(options):
        cell = allowed[row]
        if cell.any():
            total = np.bincount(groups[cell], error(option)[where[cell]], costs.shape[1])
            costs[row, groups[cell]] = total[groups[cell]]
    best: NDArray[np.intp] = costs.argmin(axis=0)[groups]
    return best


def _pad_to_cells(luma: NDArray[np.uint8], cells: Cells) -> NDArray[np.uint8]:
    height, width = (cells.side * extent for extent in cells.block.shape[1:])
    return np.pad(luma, ((0, height - luma.shape[0]), (0, width - luma.shape[1])), "edge")


def _split_into_cells(luma: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = luma.shape
    split: NDArray[np.uint8] = luma.reshape(height // side, side, width // side, side).swapaxes(1, 2)
    return split.reshape(-1, side * side)


def _future_weight(option: Option, index: int | None) -> float:
    """Return the weight of the future reference: w1 / 64 in H.264, equations 8-197 to 8-202 and 8-280 to 8-283.

    Args:
        option: presentation indices of the references.
        index: presentation index of the frame if bi-predictions are weighted by distance, else None.
    """
    past, future = option
    if HIDDEN in option:
        return float(past == HIDDEN)
    if index is None or past == future:
        return 0.5
    tb, td = (max(-128, min(127, frame - past)) for frame in (index, future))
    tx = int((16384 + abs(int(td / 2))) / td)
    scale = max(-1024, min(1023, (tb * tx + 32) >> 6)) >> 2
    return scale / 64 if -64 <= scale <= 128 else 0.5
