from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voslab.video import colour, palette


def test_palette_equals_pascal_voc() -> None:
    table = palette()
    assert table.shape == (256, 3)
    assert len(np.unique(table, axis=0)) == 256
    expected = {0: (0, 0, 0), 1: (128, 0, 0), 3: (128, 128, 0), 7: (128,) * 3, 8: (64, 0, 0), 21: (128, 64, 128)}
    for index, rgb in {**expected, 255: (224, 224, 192)}.items():
        assert tuple(table[index]) == rgb
    assert not table.flags.writeable


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_every_id_has_a_strong_colour_and_the_background_is_black(dtype: type) -> None:
    ids = np.arange(256 if dtype is np.uint8 else 60000).astype(dtype)
    colours = colour(ids)
    assert colours.dtype == np.uint8
    assert colours[0].tolist() == [0, 0, 0]
    assert (colours[1:].max(1) >= 178).all(), "bright"
    assert (colours[1:].min(1) == 0).all(), "fully saturated"


def test_colours_of_a_video_are_distinct() -> None:
    ids = [*range(1, 14), 255]
    colours = colour(np.array(ids)).astype(int)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1000 * np.eye(len(ids))
    assert distances.min() > 50
    assert len(np.unique(colour(np.arange(1, 256)), axis=0)) == 255


def test_large_ids_are_not_black() -> None:
    assert (colour(np.array([65535, 65536, 131070, 10**12])).max(-1) >= 178).all()


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_colour_of_an_id_does_not_depend_on_other_ids(one: int, other: int) -> None:
    assert np.array_equal(colour(np.array([one, other]))[0], colour(np.array([one]))[0])


def test_empty_maps_are_supported() -> None:
    assert colour(np.zeros((0, 5), np.int32)).shape == (0, 5, 3)
