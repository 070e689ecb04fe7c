from __future__ import annotations

import numpy as np
import pytest

from voslab.video.h264.interpolation import Interpolated, halved

RANDOM = np.random.default_rng(0)
LUMA = RANDOM.integers(0, 256, (40, 56)).astype(np.uint8)


def tap(values: list[int]) -> int:
    return sum(weight * value for weight, value in zip((1, -5, 20, 20, -5, 1), values, strict=True))


def luma(image: np.ndarray, x4: int, y4: int) -> int:
    """ITU-T H.264, clause 8.4.2.2.1, one sample, in integers."""
    height, width = image.shape
    x0, y0, dx, dy = x4 >> 2, y4 >> 2, x4 & 3, y4 & 3

    def at(x: int, y: int) -> int:
        return int(image[min(max(y0 + y, 0), height - 1), min(max(x0 + x, 0), width - 1)])

    def clipped(value: int, bits: int) -> int:
        return min(max((value + (1 << bits - 1)) >> bits, 0), 255)

    def b(y: int) -> int:
        return clipped(tap([at(x, y) for x in range(-2, 4)]), 5)

    def h(x: int) -> int:
        return clipped(tap([at(x, y) for y in range(-2, 4)]), 5)

    j = clipped(tap([tap([at(x, y) for x in range(-2, 4)]) for y in range(-2, 4)]), 10)
    exact = {(0, 0): at(0, 0), (2, 0): b(0), (0, 2): h(0), (2, 2): j}
    if (dx, dy) in exact:
        return exact[dx, dy]
    pairs = {
        (1, 0): (at(0, 0), b(0)),
        (3, 0): (at(1, 0), b(0)),
        (0, 1): (at(0, 0), h(0)),
        (0, 3): (at(0, 1), h(0)),
        (2, 1): (b(0), j),
        (2, 3): (b(1), j),
        (1, 2): (h(0), j),
        (3, 2): (h(1), j),
        (1, 1): (b(0), h(0)),
        (3, 1): (b(0), h(1)),
        (1, 3): (b(1), h(0)),
        (3, 3): (b(1), h(1)),
    }
    return (sum(pairs[dx, dy]) + 1) >> 1


@pytest.mark.parametrize("few", [True, False], ids=["few-cells", "whole-image"])
def test_every_quarter_pel_phase_matches_the_standard(few: bool) -> None:
    motion = np.array([[x, y] for y in range(4) for x in range(4)], np.int16) + np.array([-8, 12], np.int16)
    motion = motion if few else np.tile(motion, (12, 1))
    top, left = np.full(len(motion), 16), np.full(len(motion), 24)
    found = Interpolated(LUMA).cells(8, top, left, motion)
    for cell, (x, y) in zip(found[:16], motion[:16].tolist(), strict=True):
        expected = [luma(LUMA, 4 * (24 + c) + x, 4 * (16 + r) + y) for r in range(8) for c in range(8)]
        assert cell.tolist() == expected, (x % 4, y % 4)


@pytest.mark.parametrize("far", [(-4000, 3), (4000, -3), (5, -4000), (-6, 4000), (-130, -97), (301, 222)])
def test_border_is_repeated_outside(far: tuple[int, int]) -> None:
    y, x = np.mgrid[:40, :56]
    smooth = (2 * x + 3 * y).astype(np.uint8)
    (found,) = Interpolated(smooth).cells(8, np.array([16]), np.array([24]), np.array([far], np.int16))
    expected = [luma(smooth, 4 * (24 + c) + far[0], 4 * (16 + r) + far[1]) for r in range(8) for c in range(8)]
    assert found.tolist() == expected


def test_single_cells_equal_the_whole_frame() -> None:
    random = np.random.default_rng(1)
    top, left = random.integers(0, 5, 300) * 8, random.integers(0, 7, 300) * 8
    motion = random.integers(-300, 300, (300, 2)).astype(np.int16)
    whole = Interpolated(LUMA)
    many = whole.cells(8, top, left, motion)
    few = [Interpolated(LUMA).cells(8, top[i : i + 1], left[i : i + 1], motion[i : i + 1])[0] for i in range(300)]
    assert np.array_equal(many, few)
    assert many.shape == (300, 64)


def test_half_resolution_averages_and_interpolates_bilinearly() -> None:
    small = LUMA.reshape(20, 2, 28, 2).mean((1, 3))
    assert np.abs(halved(LUMA) - small).max() <= 0.5
    assert halved(LUMA[:39, :55]).shape == (20, 28)
    y, x = np.mgrid[:20, :28].astype(np.float32)
    found = Interpolated(LUMA).halved(x + 1.25, y - 0.5)
    between = 0.375 * (small[4:8, 6:9] + small[3:7, 6:9]) + 0.125 * (small[4:8, 7:10] + small[3:7, 7:10])
    assert np.abs(found[4:8, 5:8] - between).max() <= 1
    assert np.abs(Interpolated(LUMA).halved(x + 999, y - 999) - small[0, -1]).max() <= 0.5


def test_half_pixels_of_mpeg4_are_means_of_two() -> None:
    motion = np.array([[2, 0], [0, 2]], np.int16)
    across, down = Interpolated(LUMA, taps=2).cells(8, np.full(2, 8), np.full(2, 8), motion).astype(int)
    wide = LUMA.astype(int)
    assert np.array_equal(across.reshape(8, 8), (wide[8:16, 8:16] + wide[8:16, 9:17] + 1) >> 1)
    assert np.array_equal(down.reshape(8, 8), (wide[8:16, 8:16] + wide[9:17, 8:16] + 1) >> 1)
