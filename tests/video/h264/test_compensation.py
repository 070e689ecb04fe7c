from __future__ import annotations

import numpy as np
import pytest

from tests.video.motion.test_rasterise import blocks
from voslab.video.h264.compensation import compensate
from voslab.video.h264.interpolation import Interpolated
from voslab.video.motion.rasterise import Cells, rasterise

RANDOM = np.random.default_rng(0)
SIZE = (32, 48)
LUMAS = {index: RANDOM.integers(0, 256, SIZE).astype(np.uint8) for index in (2, 4, 8)}
REFERENCES = {index: Interpolated(image) for index, image in LUMAS.items()}


def shifted(index: int, x: int, y: int) -> np.ndarray:
    """The image as seen with a displacement of whole pixels."""
    rows = np.clip(np.arange(SIZE[0]) + y, 0, SIZE[0] - 1)
    columns = np.clip(np.arange(SIZE[1]) + x, 0, SIZE[1] - 1)
    return LUMAS[index][rows][:, columns].astype(int)


def whole(*lists: tuple[int, int, int], w: int = 16, h: int = 16) -> Cells:
    """Every macroblock in the same partitions, with these lists: source, motion x, y in quarter pixels."""
    places = [(top, left) for top in range(0, SIZE[0], h) for left in range(0, SIZE[1], w)]
    return rasterise(blocks([(s, w, h, left, top, x, y) for s, x, y in lists for top, left in places]), SIZE)


@pytest.mark.parametrize("truth", [2, 4, 8])
def test_reference_within_a_list_is_inferred(truth: int) -> None:
    luma = shifted(truth, 3, -2).astype(np.uint8)
    found = compensate(luma, whole((-1, 12, -8)), ((4, 2, 8), ()), REFERENCES)
    assert (found.references[0] == truth).all()
    assert (found.references[1] == -1).all()
    assert found.residual is not None
    assert not found.residual.any()


@pytest.mark.parametrize("pair", [(2, 8), (4, 8)])
@pytest.mark.parametrize("implicit", [False, True])
def test_pair_of_references_is_inferred(pair: tuple[int, int], implicit: bool) -> None:
    share = (5 - pair[0]) / (pair[1] - pair[0]) if implicit else 0.5
    exact = (1 - share) * shifted(pair[0], 3, -2) + share * shifted(pair[1], -1, 0)
    luma = np.clip(exact.round(), 0, 255).astype(np.uint8)
    cells = whole((-1, 12, -8), (1, -4, 0))
    found = compensate(luma, cells, ((4, 2), (8, 2)), REFERENCES, index=5, implicit=implicit)
    assert found.residual is not None
    assert (found.references == np.array(pair)[:, None, None]).all()
    assert np.abs(found.residual).max() <= (2 if implicit else 0.5)


def test_partitions_may_have_different_references() -> None:
    luma = shifted(2, 1, 0)
    luma[:, 8:16] = shifted(8, 1, 0)[:, 8:16]
    found = compensate(luma.astype(np.uint8), whole((-1, 4, 0), w=8, h=16), ((2, 4, 8), ()), REFERENCES)
    assert found.references[0].tolist() == [[2, 8, 2, 2, 2, 2]] * 4


@pytest.mark.parametrize(("used", "expected"), [((2,), [2, -1]), ((8,), [-1, 8]), ((2, 8), [2, 8])])
def test_zero_vector_may_stand_for_an_unused_list(used: tuple[int, ...], expected: list[int]) -> None:
    luma = np.mean([shifted(index, 0, 0) for index in used], axis=0).astype(np.uint8)
    parts = compensate(luma, whole((-1, 0, 0), (1, 0, 0), w=8, h=8), ((2,), (8,)), REFERENCES)
    assert parts.references[:, 0, 0].tolist() == expected
    macroblocks = compensate(luma, whole((-1, 0, 0), (1, 0, 0)), ((2,), (8,)), REFERENCES)
    assert macroblocks.references[:, 0, 0].tolist() == [2, 8]


def test_intra_blocks_and_missing_references_have_no_prediction() -> None:
    cells = rasterise(blocks([(-1, 16, 16, 0, 0, 4, 4), (1, 16, 16, 16, 16, 0, 0)]), SIZE)
    found = compensate(LUMAS[2], cells, ((7,), (8,)), REFERENCES)
    assert (found.references[0] == -1).all()
    assert (found.references[1, 2:, 2:4] == 8).all()
    assert (found.references[1] == 8).sum() == 4
    assert found.residual is not None
    expected = np.zeros(SIZE)
    expected[16:, 16:32] = (LUMAS[2].astype(int) - LUMAS[8])[16:, 16:32]
    assert np.array_equal(found.residual, expected)


def test_references_do_not_depend_on_the_residual() -> None:
    luma = RANDOM.integers(0, 256, SIZE).astype(np.uint8)
    cells = whole((-1, 5, -7), (1, 0, 0), w=8, h=8)
    both = [compensate(luma, cells, ((2, 4), (8, 4)), REFERENCES, residual=wanted) for wanted in (True, False)]
    assert np.array_equal(both[0].references, both[1].references)
    assert both[1].residual is None


@pytest.mark.parametrize(
    ("index", "pair", "weight"),
    [(1, (0, 3), 21), (8, (0, 9), 57), (6, (2, 4), 128), (7, (2, 4), 32), (0, (4, 8), -64), (0, (4, 7), 32)],
)
def test_implicit_weights_are_those_of_the_standard(index: int, pair: tuple[int, int], weight: int) -> None:
    """The weight of the future reference is DistScaleFactor >> 2, or 32 if that is not from -64 to 128."""
    frames = dict(zip(pair, (REFERENCES[2], REFERENCES[8]), strict=True))
    black = np.zeros(SIZE, np.uint8)
    lists = tuple((reference,) for reference in pair)
    found = compensate(black, whole((-1, 0, 0), (1, 0, 0)), lists, frames, index=index, implicit=True)
    assert found.residual is not None
    expected = (64 - weight) * LUMAS[2].astype(int) + weight * LUMAS[8].astype(int)
    assert np.array_equal(-64 * found.residual, expected)
