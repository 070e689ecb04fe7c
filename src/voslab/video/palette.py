"""Colours of object ids: the palette of Pascal VOC and DAVIS, continued above 255."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_SPREAD = 0x9E3779B1  # odd, near 2^32 over the golden ratio: neighbouring ids land far apart


@cache
def palette() -> NDArray[np.uint8]:
    """The 256 colours, 256 3 uint8 RGB, read-only: bit 3k + c of an id is bit 7 - k of its channel c.

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
    """Colours of non-negative ids, any shape -> the same shape + 3, uint8 RGB.

    Ids above 255 get odd channel values, which the palette never has; any 2^21 of them in a row are all different.
    """
    known: NDArray[np.uint8] = palette().take(np.minimum(ids, 255), axis=0)
    if ids.max(initial=0) < 256:
        return known
    spread = ids.astype(np.int64)[..., None] * _SPREAD >> np.array([14, 7, 0]) & 127
    return np.where((ids < 256)[..., None], known, (2 * spread + 1).astype(np.uint8))
