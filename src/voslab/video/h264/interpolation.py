"""Interpolates luma at quarter-pel positions, as H.264 motion compensation does."""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from voslab.video.motion.rasterise import QUARTERS

_MARGIN = 24
"""Rows and columns of padding: enough for a cell and the reach of the filter."""

_REACH = 3
"""Number of pixels that the filter reads on each side of a position."""
_CELLS_COST = 3
"""Cost of filtering a pixel of separate cells, relative to filtering a pixel of the whole frame."""

# Quarter-pel positions as means of two samples with offsets x, y; ITU-T H.264, table 8-12, samples G, b, h, j.
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
    """Luma of a frame that can be read at quarter-pel positions. Positions outside repeat the border.

    Args:
        luma: H W, uint8.
        taps: length of the filter: 6 for H.264, 2 (bilinear) for MPEG-4 part 2.
    """

    def __init__(self, luma: NDArray[np.uint8], taps: int = 6) -> None:
        self._size, self._taps = luma.shape, taps
        self._padded = np.pad(luma, _MARGIN, "edge")
        self._phases: NDArray[np.uint8] | None = None
        self._half: NDArray[np.float32] | None = None

    def cells(
        self, side: int, top: NDArray[np.intp], left: NDArray[np.intp], motion: NDArray[np.int16]
    ) -> NDArray[np.uint8]:
        """Read displaced square cells.

        Args:
            side: height and width of a cell in pixels.
            top: n, first row of each cell.
            left: n, first column of each cell.
            motion: n 2, displacement (x, y) in quarter pixels.

        Returns:
            n side², uint8.
        """
        height, width = self._size
        x, y = left * QUARTERS + motion[:, 0], top * QUARTERS + motion[:, 1]
        low, reach = _REACH + 1 - _MARGIN, _MARGIN - _REACH - 1 - side
        row = np.clip(y >> 2, low, height + reach) + _MARGIN
        column = np.clip(x >> 2, low, width + reach) + _MARGIN
        phase = QUARTERS * (y & 3) + (x & 3)
        if self._phases is None:
            (fractional,) = phase.nonzero()
            if len(fractional) * (side + 2 * _REACH) ** 2 * _CELLS_COST < self._padded.size:
                return self._interpolate_cells(side, row, column, phase, fractional)
            self._phases = _interpolate(self._padded, self._taps)
        windows = sliding_window_view(self._phases, (side, side), axis=(1, 2))
        values: NDArray[np.uint8] = windows[phase, row, column].reshape(len(top), -1)
        return values

    def halved(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Read the frame at half its resolution with bilinear interpolation, an approximation of `cells`.

        Args:
            x: h w, columns in pixels of the half resolution.
            y: h w, rows.

        Returns:
            h w, float32.
        """
        if self._half is None:
            self._half = halved(self._padded[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])
        return np.asarray(cv2.remap(self._half, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)

    def _interpolate_cells(
        self,
        side: int,
        row: NDArray[np.intp],
        column: NDArray[np.intp],
        phase: NDArray[np.intp],
        fractional: NDArray[np.intp],
    ) -> NDArray[np.uint8]:
        """Read cells by filtering a patch around each of those (`fractional`) that are not at full pixels."""
        windows = sliding_window_view(self._padded, (side, side))
        values = windows[row, column]
        if len(fractional):
            patch, inner = side + 2 * _REACH, slice(_REACH, _REACH + side)
            patches = sliding_window_view(self._padded, (patch, patch))
            phases = _interpolate(patches[row[fractional] - _REACH, column[fractional] - _REACH], self._taps)
            values[fractional] = phases[phase[fractional], np.arange(len(fractional)), inner, inner]
        return values.reshape(len(row), -1)


def halved(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Average 2 x 2 pixels; an odd last row or column is repeated.

    Args:
        luma: H W.

    Returns:
        H/2 W/2, rounded up, float32.
    """
    height, width = luma.shape
    even = np.pad(luma, ((0, height % 2), (0, width % 2)), "edge") if height % 2 or width % 2 else luma
    small = cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def _interpolate(luma: NDArray[np.uint8], taps: int) -> NDArray[np.uint8]:
    """Interpolate … H W to 16 … H W: one image for each quarter-pel phase 4 y + x."""
    bits = {6: 5, 2: 1}[taps]
    values = luma.astype(np.int16)
    b, h = _filter_half(values, taps), _filter_half(values.swapaxes(-1, -2), taps).swapaxes(-1, -2)
    j = _filter_half(b.astype(np.int32).swapaxes(-1, -2), taps).swapaxes(-1, -2)
    base = (luma, _rounded(b, bits), _rounded(h, bits), _rounded(j, 2 * bits))
    phases = np.empty((QUARTERS**2, *luma.shape), np.uint8)
    for y, x in product(range(QUARTERS), repeat=2):
        target = phases[QUARTERS * y + x]
        if (x, y) in _BASE:
            target[:] = base[_BASE[x, y]]
        else:
            first, second = (
                np.roll(base[plane], (-below, -right), (-2, -1)) if right or below else base[plane]
                for plane, right, below in _MEANS[x, y]
            )
            # Mean of two bytes, rounded up, in 8-bit arithmetic.
            np.bitwise_xor(first, second, out=target)
            target >>= 1
            np.subtract(first | second, target, out=target)
    return phases


def _filter_half(values: NDArray[np.integer], taps: int) -> NDArray[np.integer]:
    """Compute the unscaled samples half a pixel to the right of each value; the outermost columns are 0."""
    half = values[..., 2:-3] + values[..., 3:-2]
    if taps == 6:
        half *= 20
        half -= 5 * (values[..., 1:-4] + values[..., 4:-1])
        half += values[..., :-5] + values[..., 5:]
    samples = np.zeros_like(values)
    samples[..., 2:-3] = half
    return samples


def _rounded(values: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    values = values + (1 << bits - 1)
    values >>= bits
    return np.clip(values, 0, 255, out=values).astype(np.uint8)
