"""Maps object ids to colours: the palette of Pascal VOC and DAVIS for mask files, strong colours for overlays."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_IDS = 65536  # of the table of strong colours, which repeat above
_GOLDEN = 0.6180339887498949
_LEVELS = 13  # ids until the brightness changes; the hues of 13 consecutive ids are at least 20 degrees apart


@cache
def palette() -> NDArray[np.uint8]:
    """Return the palette: bit 3k + c of an id is bit 7 - k of channel c of its colour.

    Returns:
        256 3 uint8, RGB, read-only.

    >>> palette()[[0, 1, 2, 9]].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 0, 0]]
    """
    ids = np.arange(256)[:, None]
    channel = np.arange(3)
    colours = sum((ids >> (3 * k + channel) & 1) << (7 - k) for k in range(3))
    table = np.asarray(colours, np.uint8)
    table.flags.writeable = False
    return table


def colour(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Look up strong colours of ids, for drawing.

    Id k has full saturation and the hue (k - 1) / golden ratio mod 1, from red, so that neighbouring ids have distant
    hues. Blocks of 13 ids are bright and darker in turn. 0 is black.

    Args:
        ids: non-negative ids of any shape.

    Returns:
        the shape of `ids` + 3, uint8, RGB.

    >>> colour(np.arange(4)).tolist()
    [[0, 0, 0], [255, 0, 0], [0, 74, 255], [149, 255, 0]]
    """
    if ids.max(initial=0) >= _IDS:
        ids = np.where(ids > 0, (ids.astype(np.int64) - 1) % (_IDS - 1) + 1, 0)
    strong: NDArray[np.uint8] = _strong_colours().take(ids, axis=0)
    return strong


@cache
def _strong_colours() -> NDArray[np.uint8]:
    """Return the colours of `colour` for ids below `_IDS`."""
    places = np.arange(_IDS - 1)
    sixths = 6 * (_GOLDEN * places % 1)
    # Red, green and blue are full within a sixth of the circle around their hue, and off from two sixths on.
    distance = np.abs((sixths[:, None] - np.array([0, 2, 4]) + 3) % 6 - 3)
    brightness = np.where(places // _LEVELS % 2, 0.7, 1)
    colours = np.rint(255 * brightness[:, None] * (2 - distance).clip(0, 1)).astype(np.uint8)
    return np.concatenate([np.zeros((1, 3), np.uint8), colours])
