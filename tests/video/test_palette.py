from __future__ import annotations

import numpy as np
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


def test_colours_below_256_equal_the_palette_for_every_dtype() -> None:
    ids = np.arange(256).reshape(16, 16)
    for dtype in (np.uint8, np.int32, np.int64, np.uint16):
        assert np.array_equal(colour(ids.astype(dtype)).reshape(256, 3), palette())


def test_70000_ids_have_70000_colours() -> None:
    assert len(np.unique(colour(np.arange(70000)), axis=0)) == 70000


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_colour_of_an_id_does_not_depend_on_other_ids(one: int, other: int) -> None:
    assert np.array_equal(colour(np.array([one, other]))[0], colour(np.array([one]))[0])


def test_empty_maps_are_supported() -> None:
    assert colour(np.zeros((0, 5), np.int32)).shape == (0, 5, 3)
