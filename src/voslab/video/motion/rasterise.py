"""Rasterises the motion vectors of libavcodec to dense fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUARTERS = 4
"""Units of motion per pixel."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Motion on a grid of square cells. Blocks consist of whole cells. List 0 is the past, list 1 the future.

    Attributes:
        side: height and width of a cell in pixels: 8, or 4 if some blocks are smaller.
        motion: 2 2 h w, int16: displacement (x, y) per list, in quarter pixels; 0 where a list is unused.
        block: 2 h w, int32: index of the exported block that covers the cell, per list; -1 for none.
        whole: h w, bool: the cell belongs to a 16 x 16 block, for which the vectors tell unused lists exactly.
    """

    side: int
    motion: NDArray[np.int16]
    block: NDArray[np.int32]
    whole: NDArray[np.bool_]


def rasterise(vectors: NDArray[np.void] | None, size: tuple[int, int]) -> Cells:
    """Rasterise blocks to cells.

    libavcodec exports no H.264 block smaller than 8 x 8. It exports the vector of the first of the smaller blocks.

    Args:
        vectors: structured array of n `AVMotionVector`s, whose `dst` is the centre of a block; None if there are none.
        size: H, W of the frame; blocks outside of it are cropped.

    Returns:
        the cells, which cover the frame.
    """
    if vectors is None or not len(vectors):
        height, width = (-(-extent // 8) for extent in size)
        empty = np.zeros((2, 2, height, width), np.int16)
        return Cells(8, empty, np.full((2, height, width), -1, np.int32), np.ones((height, width), bool))
    across, down = vectors["w"].astype(np.int32), vectors["h"].astype(np.int32)
    side = 8 if min(across.min(), down.min()) >= 8 else 4
    height, width = (-(-extent // side) for extent in size)
    left, top = (vectors["dst_x"] - across // 2) // side, (vectors["dst_y"] - down // 2) // side
    future = (vectors["source"] > 0).astype(np.int32)
    block = np.full((2, height, width), -1, np.int32)
    for y in range(int(down.max()) // side):
        for x in range(int(across.max()) // side):
            row, column = top + y, left + x
            inside = (y * side < down) & (x * side < across)
            inside &= (row >= 0) & (row < height) & (column >= 0) & (column < width)
            (which,) = inside.nonzero()
            block[future[which], row[which], column[which]] = which
    scale = QUARTERS // np.maximum(vectors["motion_scale"], 1).astype(np.int32)
    table = np.zeros((len(vectors) + 1, 2), np.int16)
    table[:-1, 0], table[:-1, 1] = vectors["motion_x"] * scale, vectors["motion_y"] * scale
    whole = np.ones(len(vectors) + 1, bool)
    whole[:-1] = (across >= 16) & (down >= 16)
    return Cells(side, table[block].transpose(0, 3, 1, 2), block, whole[block[0]] & whole[block[1]])


def dense(cells: NDArray, side: int, size: tuple[int, int]) -> NDArray:
    """Upsample a field by repetition.

    Args:
        cells: … h w.
        side: pixels per cell in each direction.
        size: H, W to crop the result to.

    Returns:
        … H W.
    """
    height, width = size
    rows = np.repeat(cells, side, axis=-1)[..., :width]
    pixels: NDArray = np.repeat(rows, side, axis=-2)[..., :height, :]
    return pixels
