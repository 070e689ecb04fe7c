from __future__ import annotations

import numpy as np
import pytest

from voslab.video.drawing import arrows, caption, dimmed, panel_size, resized, tiled, tint

RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.mark.parametrize(
    ("size", "panel"),
    [((480, 854), (480, 854)), ((1080, 1920), (480, 854)), ((33, 41), (32, 40)), ((1, 1), (2, 2)), ((854, 480),) * 2],
)
def test_panels_are_even_and_no_larger_than_480(size: tuple[int, int], panel: tuple[int, int]) -> None:
    assert panel_size(size) == panel


def test_arrow_points_along_its_vector() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    motion, used = np.zeros((2, 40, 60)), np.zeros((40, 60), bool)
    motion[0], motion[1] = 12, -6
    used[30, 10] = True
    arrows(image, motion, used, RED)
    rows, columns = np.nonzero(image[..., 0] > 128)
    assert image[30, 10, 0] > 128
    assert image[24, 22, 0] > 128
    assert (rows.max(), columns.min()) <= (32, 8)
    assert image[..., 1:].max() == 0


def test_long_arrows_are_clipped_at_the_border() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    motion = np.full((2, 40, 60), 0.0)
    motion[0] = 1e9
    arrows(image, motion, np.ones((40, 60), bool), GREEN)
    assert image[10, -1, 1] > 128


def test_tint_and_dimmed_do_not_change_the_image() -> None:
    image = np.full((4, 6, 3), 200, np.uint8)
    where = np.zeros((4, 6), bool)
    where[1] = True
    assert tint(image, where, RED)[1, 0].tolist() == [238, 60, 60]
    assert tint(image, where, RED)[0, 0].tolist() == [200] * 3
    assert dimmed(image)[0, 0].tolist() == [120] * 3
    assert (image == 200).all()


def test_captions_fit_small_panels() -> None:
    wide, narrow = (np.full((60, width, 3), 255, np.uint8) for width in (400, 50))
    caption(wide, "frame 3", ("past", RED))
    assert (wide[30:] == 255).all()
    assert (wide[:, 200:] == 255).all()
    assert (wide[:24, :150] < 128).any()
    caption(narrow, "a caption that is much too long")
    assert (narrow[20:] == 255).all()


def test_panels_are_tiled_row_by_row() -> None:
    panels = [np.full((2, 4, 3), value, np.uint8) for value in range(6)]
    assert tiled(panels)[::2, ::4, 0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert resized(panels[3], (3, 5)).shape == (3, 5, 3)
