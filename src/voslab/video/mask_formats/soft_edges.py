"""Recognises a white object with soft edges on black, and cuts it at half."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

DIM_WHITE = 224
"""Level that the brightest pixel of a white object exceeds; a wide brush leaves a small object below white."""
_BLACK, _WHITE = 8, 247  # levels below and above are black and white in the tails of wide brushes
_JPEG_BLACK, _JPEG_WHITE = 40, 215  # the same after lossy compression
_LEVELS = (24, 64, 96, 128, 160, 192, 232)
# Maximum fraction of pixels, of those at least as bright as a level, in parts without white; and the same for holes.
_MAX_ISOLATED, _MAX_ISOLATED_LOSSY = 0.15, 0.05
_MAX_SLOPE_LOSSY = 0.4  # maximum fraction of grey pixels in a JPEG, which may be a photo
_MAX_FLAT = 0.2  # maximum fraction of grey pixels inside flat 3 x 3 squares
_MIN_SPREAD = 32  # grey levels of a wide gradient
_MAX_WINDOW = 0.2  # maximum fraction of grey pixels in five neighbouring levels of a wide gradient


def cut_soft(grey: NDArray[np.uint8], lossy: bool = False) -> NDArray[np.bool_] | None:
    """Cut a white object with soft edges on black at half of white.

    Grey pixels must form slopes between black and white: every bright part contains white, every dark part contains
    black, and there is no grey plateau, which would be an object of its own.

    Args:
        grey: Image H W.
        lossy: Whether the image was compressed with loss, so that black and white are noisy.

    Returns:
        Object H W; None if the image is anything else.

    Example:
        >>> cut_soft(np.array([[0, 0, 90, 180, 255, 255]], np.uint8)).tolist()
        [[False, False, False, True, True, True]]
        >>> cut_soft(np.array([[0, 0, 1, 1, 2, 2]], np.uint8)) is None
        True
    """
    black, white = (_JPEG_BLACK, _JPEG_WHITE) if lossy else (_BLACK, _WHITE)
    brightest = int(grey.max(initial=0))
    if brightest > DIM_WHITE:
        white = min(white, brightest - _BLACK)
    core, ground = grey > white, grey < black
    if not core.any() or not ground.any():
        return None
    slope = ~core & ~ground if lossy else (grey > 0) & (grey < 255)
    if not slope.any():
        return core
    if not lossy and not (_is_thin(grey, slope) or _is_gradient(grey[slope])):
        return None
    if lossy and (slope.mean() > _MAX_SLOPE_LOSSY or _has_plateau(grey, slope)):
        return None
    limit = _MAX_ISOLATED_LOSSY if lossy else _MAX_ISOLATED
    smooth = cv2.medianBlur(grey, 3) if lossy else grey
    for level in _LEVELS:
        bright = smooth >= level
        if _outside(bright, core) > limit or _outside(~bright, ground) > limit:
            return None
    return np.asarray(grey >= 128)


def _is_thin(grey: NDArray[np.uint8], slope: NDArray[np.bool_]) -> bool:
    square = np.ones((3, 3), np.uint8)
    flat = cv2.erode(grey, square) == cv2.dilate(grey, square)
    return bool(flat[slope].mean() <= _MAX_FLAT)


def _is_gradient(levels: NDArray[np.uint8]) -> bool:
    counts = np.bincount(levels, minlength=256)
    windows = np.convolve(counts, np.ones(5), "same")
    return bool((counts > 0).sum() >= _MIN_SPREAD and windows.max() <= _MAX_WINDOW * levels.size)


def _has_plateau(grey: NDArray[np.uint8], slope: NDArray[np.bool_]) -> bool:
    """Whether many grey pixels differ little from their neighbours, although the gradient is no wide one."""
    square = np.ones((3, 3), np.uint8)
    steps = cv2.dilate(grey, square).astype(np.int16) - cv2.erode(grey, square)
    flat = (steps[slope] <= 8).mean()
    return bool(flat > _MAX_FLAT and not _is_gradient(grey[slope]))


def _outside(part: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> float:
    """Return the fraction of a part's pixels in connected components without a seed."""
    count, components, stats, _ = cv2.connectedComponentsWithStats(part.astype(np.uint8), connectivity=8)
    seeded = np.zeros(count, np.bool_)
    seeded[components[seeds & part]] = True
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    areas[0] = 0
    return float(areas[~seeded].sum() / max(1, areas.sum()))
