from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from voslab.core import DataError
from voslab.video.mask_formats.rle import Runs, area, decode, pack

masks = arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(0, 1))


def runs_of(mask: NDArray[np.uint8]) -> list[int]:
    """Return the run lengths by definition: column by column, zeros first."""
    flat = mask.flatten("F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *counts] if flat[0] else counts


@given(masks)
def test_plain_and_compressed_run_lengths_agree_with_pycocotools_and_the_definition(mask: NDArray[np.uint8]) -> None:
    size = (mask.shape[0], mask.shape[1])
    official = coco_mask.encode(np.asfortranarray(mask))["counts"]
    assert pack({"size": list(size), "counts": runs_of(mask)}, size, "here") == official
    assert pack({"size": list(size), "counts": official.decode()}, size, "here") == official
    np.testing.assert_array_equal(decode(official, size, "here"), mask)
    assert area(official, "here") == mask.sum()


def test_pack_merges_polygons() -> None:
    packed = pack([[2, 2, 8, 2, 8, 6, 2, 6], [10, 1, 14, 1, 14, 9, 10, 9]], (12, 16), "here")
    expected = np.zeros((12, 16), bool)
    expected[2:6, 2:8] = expected[1:9, 10:14] = True
    np.testing.assert_array_equal(decode(packed, (12, 16), "here"), expected)


def test_later_objects_cover_earlier_ones() -> None:
    left = pack([[0, 0, 6, 0, 6, 4, 0, 4]], (4, 8), "here")
    right = pack([[4, 0, 8, 0, 8, 4, 4, 4]], (4, 8), "here")
    labels = Runs((4, 8), ((300, left), (7, right)), "here").labels()
    np.testing.assert_array_equal(labels, [[300] * 4 + [7] * 4] * 4)


@pytest.mark.parametrize(
    "wrong",
    [
        *([[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], [[0, 0, float("nan"), 1, 1, 1]], [], [["a"] * 6], None, 7, {}),
        *({"size": [4, 6], "counts": [24]}, {"size": [6, 4], "counts": [23]}, {"size": [6, 4], "counts": [25, -1]}),
        *(
            {"size": [6, 4], "counts": "~~"},
            {"size": [6, 4], "counts": "P"},
            {"size": [6, 4], "counts": "P" * 40 + "0"},
        ),
        *({"size": [6, 4], "counts": "é"}, {"size": [6, 4], "counts": [1e30]}, {"size": [6, 4], "counts": [[24]]}),
        {"size": [6, 4], "counts": [2**63, 2**63, 24]},
    ],
)
def test_malformed_segmentations_raise_an_error_that_names_the_source(wrong: object) -> None:
    with pytest.raises(DataError, match=r"^annotation 5: "):
        pack(wrong, (6, 4), "annotation 5")


@given(st.binary(max_size=30))
def test_decode_gives_a_whole_mask_or_an_error_for_any_bytes(counts: bytes) -> None:
    try:
        mask = decode(counts, (5, 7), "here")
    except DataError:
        return
    assert mask.shape == (5, 7)


@pytest.mark.parametrize("size", [(0, 5), (-2, 3), (10**5, 10**5), (2**40, 2**40)])
def test_pack_refuses_impossible_image_sizes(size: tuple[int, int]) -> None:
    for segmentation in ([[0, 0, 5, 0, 5, 3]], {"size": list(size), "counts": [size[0] * size[1]]}):
        with pytest.raises(DataError, match="here: the image is"):
            pack(segmentation, size, "here")


@pytest.mark.parametrize("far", [1e308, -1e9, 2**31])
def test_pack_refuses_polygons_far_outside_the_image(far: float) -> None:
    with pytest.raises(DataError, match="reaches further than"):
        pack([[0, 0, far, 0, 5, 3]], (4, 6), "here")
