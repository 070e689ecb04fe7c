from __future__ import annotations

import numpy as np
import pytest

from voslab.video.motion.rasterise import dense, rasterise

FIELDS = ("source", "w", "h", "src_x", "src_y", "dst_x", "dst_y", "flags", "motion_x", "motion_y", "motion_scale")
TYPE = np.dtype([(name, np.int32) for name in FIELDS])


def blocks(rows: list[tuple[int, int, int, int, int, int, int]], scale: int = 4) -> np.ndarray:
    """Rows of source, w, h, left, top, motion x, motion y."""
    found = np.zeros(len(rows), TYPE)
    for block, (source, w, h, left, top, x, y) in zip(found, rows, strict=True):
        block["source"], block["w"], block["h"], block["motion_scale"] = source, w, h, scale
        block["dst_x"], block["dst_y"], block["motion_x"], block["motion_y"] = left + w // 2, top + h // 2, x, y
    return found


def random_blocks(size: tuple[int, int], smallest: int, seed: int) -> np.ndarray:
    """Macroblocks in all partitions, intra ones left out, each with one list or both."""
    random = np.random.default_rng(seed)
    rows = []
    for top in range(0, size[0], 16):
        for left in range(0, size[1], 16):
            shapes = [s for s in ((16, 16), (16, 8), (8, 16), (8, 8), (8, 4), (4, 8), (4, 4)) if min(s) >= smallest]
            w, h = shapes[random.integers(len(shapes))]
            for source in ((), (-1,), (1,), (-1, 1))[random.integers(4)]:
                rows += [
                    (source, w, h, left + x, top + y, *random.integers(-90, 90, 2).tolist())
                    for y in range(0, 16, h)
                    for x in range(0, 16, w)
                ]
    return blocks(rows)


def slow(vectors: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Block after block, pixel after pixel: motion 4 H W in pixels, and which block covers it 2 H W."""
    motion, which = np.zeros((4, *size)), np.full((2, *size), -1)
    for index, block in enumerate(vectors):
        place = int(block["source"] > 0)
        for y in range(block["dst_y"] - block["h"] // 2, block["dst_y"] + block["h"] // 2):
            for x in range(block["dst_x"] - block["w"] // 2, block["dst_x"] + block["w"] // 2):
                if y < size[0] and x < size[1]:
                    motion[2 * place, y, x] = block["motion_x"] / block["motion_scale"]
                    motion[2 * place + 1, y, x] = block["motion_y"] / block["motion_scale"]
                    which[place, y, x] = index
    return motion, which


@pytest.mark.parametrize("smallest", [8, 4])
@pytest.mark.parametrize("size", [(48, 64), (44, 70), (33, 17)])
def test_rasterised_blocks_equal_a_loop(size: tuple[int, int], smallest: int) -> None:
    vectors = random_blocks(size, smallest, seed=size[0] + smallest)
    cells = rasterise(vectors, size)
    motion, which = slow(vectors, size)
    assert cells.side == smallest
    assert np.array_equal(dense(cells.motion.reshape(4, *cells.motion.shape[2:]), cells.side, size) / 4, motion)
    assert np.array_equal(dense(cells.block, cells.side, size), which)
    sizes = np.append(np.minimum(vectors["w"], vectors["h"]), 16)
    assert np.array_equal(dense(cells.whole, cells.side, size), (sizes[which] == 16).all(axis=0))


def test_half_pixels_of_mpeg4_become_quarters() -> None:
    cells = rasterise(blocks([(-1, 16, 16, 0, 0, 3, -5)], scale=2), (16, 16))
    assert cells.motion[0, :, 0, 0].tolist() == [6, -10]


@pytest.mark.parametrize("vectors", [None, np.zeros(0, TYPE)])
def test_no_blocks_give_an_empty_field(vectors: np.ndarray | None) -> None:
    cells = rasterise(vectors, (17, 30))
    assert cells.motion.shape == (2, 2, 3, 4)
    assert not cells.motion.any()
    assert (cells.block == -1).all()
    assert dense(cells.block, cells.side, (17, 30)).shape == (2, 17, 30)
