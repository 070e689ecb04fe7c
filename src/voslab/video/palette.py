"""Maps object ids to colours: the palette of Pascal VOC and DAVIS, continued above 255."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_HASH_FACTOR = 0x9E3779B1  # odd, close to 2^32 over the golden ratio, so that neighbouring ids get distant colours


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
    """Look up the colours of ids.

    Ids above 255 get odd channel values, which the palette does not contain. Any 2^21 consecutive ids have different
    colours.

    Args:
        ids: non-negative ids of any shape.

    Returns:
        the shape of `ids` + 3, uint8, RGB.
    """
    table: NDArray[np.uint8] = palette().take(np.minimum(ids, 255), axis=0)
    if ids.max(initial=0) < 256:
        return table
    hashed = ids.astype(np.int64)[..., None] * _HASH_FACTOR >> np.array([14, 7, 0]) & 127
    return np.where((ids < 256)[..., None], table, (2 * hashed + 1).astype(np.uint8))
