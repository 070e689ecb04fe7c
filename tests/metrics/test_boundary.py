from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.reference import Mask, masks, pairs, slow_boundary, slow_boundary_f
from voslab.core import DataError
from voslab.metrics import boundary_f, boundary_map, jaccard

GOLDEN = Path(__file__).parents[1] / "golden"


@given(pairs())
def test_boundary_map_follows_its_definition(pair: tuple[Mask, Mask]) -> None:
    edge = boundary_map(pair[0])
    assert edge.dtype == np.bool_
    assert edge.shape == pair[0].shape
    assert [tuple(point) for point in np.argwhere(edge).tolist()] == slow_boundary(pair[0])


@settings(max_examples=500)
@given(pairs(), st.sampled_from([0.008, 0.008, 0.05, 0.1, 0.3, 0.0]))
def test_boundary_f_equals_brute_force(pair: tuple[Mask, Mask], tolerance: float) -> None:
    assert boundary_f(*pair, tolerance) == pytest.approx(slow_boundary_f(*pair, tolerance), abs=1e-12)


@settings(max_examples=20)
@given(masks(20, 60), masks(20, 60), st.integers(0, 90), st.integers(0, 50))
def test_boundary_f_equals_brute_force_anywhere_in_a_larger_image(a: Mask, b: Mask, top: int, left: int) -> None:
    large = np.zeros((2, 130, 140), np.bool_)
    large[0, top : top + 20, left : left + 60] = a
    large[1, 110:, 80:] = b
    assert boundary_f(*large) == pytest.approx(slow_boundary_f(*large), abs=1e-12)


def test_golden_pairs() -> None:
    names = json.loads((GOLDEN / "metrics_pairs.json").read_text())["pair_names"]
    with np.load(GOLDEN / "metrics_pairs.npz") as golden:
        for i, name in enumerate(names):
            height, width = golden[f"shape_{i:02}"].tolist()
            prediction, truth = (
                np.unpackbits(golden[f"{side}_{i:02}"])[: height * width].reshape(height, width).astype(np.bool_)
                for side in ("pred", "gt")
            )
            assert jaccard(prediction, truth) == pytest.approx(golden["J"][i], abs=1e-12), name
            assert boundary_f(prediction, truth) == pytest.approx(golden["F"][i], abs=1e-12), name


def test_full_mask_has_no_boundary() -> None:
    full, empty, half = np.ones((9, 12), np.bool_), np.zeros((9, 12), np.bool_), np.zeros((9, 12), np.bool_)
    half[:, :6] = True
    assert boundary_f(full, empty) == boundary_f(empty, empty) == boundary_f(full, full) == 1.0
    assert boundary_f(full, half) == boundary_f(half, full) == boundary_f(empty, half) == boundary_f(half, empty) == 0.0


@pytest.mark.parametrize(("shift", "expected"), [(8, 1.0), (9, 0.0)])
def test_radius_at_480p_is_8_pixels(shift: int, expected: float) -> None:
    truth, prediction = np.zeros((2, 480, 854), np.bool_)
    truth[200:, :], prediction[200 + shift :, :] = True, True
    assert boundary_f(prediction, truth) == expected


@given(pairs())
def test_memory_layout_does_not_matter_and_inputs_are_not_modified(pair: tuple[Mask, Mask]) -> None:
    expected = boundary_f(*pair, 0.05)
    views = [np.repeat(np.asfortranarray(mask), 2, axis=1)[:, ::2] for mask in pair]
    for view in views:
        view.setflags(write=False)
    assert boundary_f(views[0], views[1], 0.05) == expected
    assert boundary_f(np.asfortranarray(pair[0]), np.asfortranarray(pair[1]), 0.05) == expected


def test_different_sizes_are_rejected() -> None:
    with pytest.raises(DataError, match="sizes"):
        boundary_f(np.zeros((4, 5), np.bool_), np.zeros((5, 4), np.bool_))
