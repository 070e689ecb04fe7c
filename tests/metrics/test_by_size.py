from __future__ import annotations

import math

import numpy as np
import pytest

from voslab.core import DataError
from voslab.metrics import score_by_size, standard_areas


def test_sizes_are_scaled_to_480p() -> None:
    labels = np.zeros((480, 854), np.int64)
    labels[:100, :100], labels[200:300, :300] = 3, 7
    assert standard_areas(labels, [7, 3, 4]).tolist() == [30_000, 10_000, 0]
    assert standard_areas(labels.repeat(2, 0).repeat(2, 1), [7, 3]).tolist() == [30_000, 10_000]
    assert standard_areas(labels[::2, ::2], [3]).tolist() == [10_000]


def test_each_mask_counts_once_in_its_size_class() -> None:
    areas = np.array([9_999.0, 10_000, 29_999, 30_000, 409_920, 0, 1])
    scores = np.stack([np.arange(7) / 10, np.arange(7) / 10 + 0.2], 1)
    small, medium, large, every = score_by_size(scores, areas)
    assert [(s.name, s.masks) for s in (small, medium, large, every)] == [
        ("small", 2),
        ("medium", 2),
        ("large", 2),
        ("all", 6),
    ]
    assert (small.region, medium.region, large.region) == pytest.approx((0.3, 0.15, 0.35))
    assert medium.boundary == pytest.approx(0.35)
    assert medium.mean == pytest.approx(0.25)
    assert every.region == pytest.approx((0 + 0.1 + 0.2 + 0.3 + 0.4 + 0.6) / 6)


def test_class_without_masks_has_no_score() -> None:
    small, medium, *_ = score_by_size(np.ones((1, 2)), np.array([5.0]))
    assert (small.mean, medium.masks) == (1, 0)
    assert math.isnan(medium.mean)
    assert all(score.masks == 0 for score in score_by_size(np.zeros((0, 2)), np.zeros(0)))


def test_numbers_of_scores_and_sizes_must_match() -> None:
    with pytest.raises(DataError, match=r"2 sizes of masks, but scores of shape \(3, 2\)"):
        score_by_size(np.zeros((3, 2)), np.zeros(2))
