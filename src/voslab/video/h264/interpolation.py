"""Interpolates luma at quarter-pel positions, as H.264 motion compensation does."""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from voslab.video.motion.rasterise import QUARTERS

_MARGIN = 24
"""Rows and columns around a picture: a cell and the reach of the filter; behind them everything is the border."""

_REACH = 3
"""Of the filter, with the pixel at one side."""
_FEW = 3
"""Below this number of cells, only the cells are filtered and not the whole plane."""

# Which two of the planes below (with an offset x, y) make each quarter-pel phase; ITU-T H.264, table 8-12, G b h j.
_G, _B, _H, _J = range(4)
_BASE = {(0, 0): _G, (2, 0): _B, (0, 2): _H, (2, 2): _J}
_MEANS = {
    (1, 0): ((_G, 0, 0), (_B, 0, 0)),
    (3, 0): ((_G, 1, 0), (_B, 0, 0)),
    (0, 1): ((_G, 0, 0), (_H, 0, 0)),
    (0, 3): ((_G, 0, 1), (_H, 0, 0)),
    (2, 1): ((_B, 0, 0), (_J, 0, 0)),
    (2, 3): ((_B, 0, 1), (_J, 0, 0)),
    (1, 2): ((_H, 0, 0), (_J, 0, 0)),
    (3, 2): ((_H, 1, 0), (_J, 0, 0)),
    (1, 1): ((_B, 0, 0), (_H, 0, 0)),
    (3, 1): ((_B, 0, 0), (_H, 1, 0)),
    (1, 3): ((_B, 0, 1), (_H, 0, 0)),
    (3, 3): ((_B, 0, 1), (_H, 1, 0)),
}


class Interpolated:
    """A luma frame (H W, uint8) that can be read at quarter pixels, with its border continued outwards.

    `taps` 6 is the filter of H.264, 2 the bilinear one of MPEG-4 part 2.
    """

    def __init__(self, luma: NDArray[np.uint8], taps: int = 6) -> None:
        self._size, self._taps = luma.shape, taps
        self._whole = np.pad(luma, _MARGIN, "edge")
        self._phases: NDArray[np.uint8] | None = None
        self._half: NDArray[np.float32] | None = None

    def cells(
        self, side: int, top: NDArray[np.intp], left: NDArray[np.intp], motion: NDArray[np.int16]
    ) -> NDArray[np.uint8]:
        """Cells at rows `top` and columns `left` (n), displaced by `motion` (n 2, quarter pixels), as n `side`²."""
        height, width = self._size
        x, y = left * QUARTERS + motion[:, 0], top * QUARTERS + motion[:, 1]
        low, reach = _REACH + 1 - _MARGIN, _MARGIN - _REACH - 1 - side
        row = np.clip(y >> 2, low, height + reach) + _MARGIN
        column = np.clip(x >> 2, low, width + reach) + _MARGIN
        phase = QUARTERS * (y & 3) + (x & 3)
        if self._phases is None:
            between = phase.nonzero()[0]
            if len(between) * (side + 2 * _REACH) ** 2 * _FEW < self._whole.size:
                return self._few(side, row, column, phase, between)
            self._phases = _at_phases(self._whole, self._taps)
        windows = sliding_window_view(self._phases, (side, side), axis=(1, 2))
        found: NDArray[np.uint8] = windows[phase, row, column].reshape(len(top), -1)
        return found

    def halved(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        """The frame at half its size, bilinear, at places H W in it: close, and many times cheaper."""
        if self._half is None:
            self._half = halved(self._whole[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])
        return np.asarray(cv2.remap(self._half, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)

    def _few(
        self,
        side: int,
        row: NDArray[np.intp],
        column: NDArray[np.intp],
        phase: NDArray[np.intp],
        between: NDArray[np.intp],
    ) -> NDArray[np.uint8]:
        """The same without filtering the whole picture: `between` are the cells that need the filter."""
        windows = sliding_window_view(self._whole, (side, side))
        found = windows[row, column]
        if len(between):
            patch, inner = side + 2 * _REACH, slice(_REACH, _REACH + side)
            patches = sliding_window_view(self._whole, (patch, patch))
            around = patches[row[between] - _REACH, column[between] - _REACH]
            found[between] = _at_phases(around, self._taps)[phase[between], np.arange(len(between)), inner, inner]
        return found.reshape(len(row), -1)


def halved(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means of 2 x 2 pixels; an odd last row or column counts twice."""
    height, width = luma.shape
    even = np.pad(luma, ((0, height % 2), (0, width % 2)), "edge") if height % 2 or width % 2 else luma
    small = cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _at_phases(whole: NDArray[np.uint8], taps: int) -> NDArray[np.uint8]:
    """Frames … H W as 16 … H W: one for every quarter-pel phase, 4 y + x."""
    bits = {6: 5, 2: 1}[taps]
    wide = whole.astype(np.int16)
    across, down = _filtered(wide, taps), _filtered(wide.swapaxes(-1, -2), taps).swapaxes(-1, -2)
    centre = _filtered(across.astype(np.int32).swapaxes(-1, -2), taps).swapaxes(-1, -2)
    base = (whole, _rounded(across, bits), _rounded(down, bits), _rounded(centre, 2 * bits))
    phases = np.empty((QUARTERS**2, *whole.shape), np.uint8)
    for y, x in product(range(QUARTERS), repeat=2):
        target = phases[QUARTERS * y + x]
        if (x, y) in _BASE:
            target[:] = base[_BASE[x, y]]
        else:
            first, second = (
                np.roll(base[plane], (-below, -right), (-2, -1)) if right or below else base[plane]
                for plane, right, below in _MEANS[x, y]
            )
            # The mean of two bytes, rounded up, without leaving bytes.
            np.bitwise_xor(first, second, out=target)
            target >>= 1
            np.subtract(first | second, target, out=target)
    return phases


def _filtered(wide: NDArray[np.integer], taps: int) -> NDArray[np.integer]:
    """Values half a pixel to the right of each, not rounded and not scaled; the outermost columns are not filled."""
    half = wide[..., 2:-3] + wide[..., 3:-2]
    if taps == 6:
        half *= 20
        half -= 5 * (wide[..., 1:-4] + wide[..., 4:-1])
        half += wide[..., :-5] + wide[..., 5:]
    found = np.zeros_like(wide)
    found[..., 2:-3] = half
    return found


def _rounded(values: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    values = values + (1 << bits - 1)
    values >>= bits
    return np.clip(values, 0, 255, out=values).astype(np.uint8)
