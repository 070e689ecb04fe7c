from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from tests.metrics.reference import Mask, pairs, slow_jaccard
from voslab.core import DataError
from voslab.metrics import jaccard


@given(pairs())
def test_jaccard_equals_set_arithmetic(pair: tuple[Mask, Mask]) -> None:
    assert jaccard(*pair) == pytest.approx(slow_jaccard(*pair), abs=1e-12)
    assert jaccard(*pair) == jaccard(*reversed(pair))


def test_two_empty_masks_score_one() -> None:
    assert jaccard(np.zeros((3, 5), np.bool_), np.zeros((3, 5), np.bool_)) == 1.0


@pytest.mark.parametrize(
    ("prediction", "truth", "reason"),
    [
        (np.zeros((4, 5), np.bool_), np.zeros((5, 4), np.bool_), r"\(4, 5\).*\(5, 4\)"),
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.bool_), "prediction: .*uint8"),
        (np.zeros((4, 5), np.bool_), np.zeros((1, 4, 5), np.bool_), "truth: "),
        (np.zeros((0, 5), np.bool_), np.zeros((0, 5), np.bool_), "prediction: "),
    ],
)
def test_invalid_masks_are_rejected_in_one_line(prediction: Mask, truth: Mask, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as error:
        jaccard(prediction, truth)
    assert "\n" not in str(error.value)
