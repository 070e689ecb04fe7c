from __future__ import annotations

import numpy as np
import pytest

from voslab.core import DataError
from voslab.metrics import holders, identity_switches


def test_holder_covers_more_than_half_of_the_object() -> None:
    rng = np.random.default_rng(0)
    ids = [7, 300, 2]
    for _ in range(30):
        truth = rng.choice([0, *ids, 255], (6, 6))
        prediction = np.where(rng.random((6, 6)) < 0.5, truth, rng.permutation([0, 7, 300, 2, 255])[truth % 5])
        for identity, holder in zip(ids, holders(prediction, truth, ids).tolist(), strict=True):
            inside = prediction[truth == identity]
            covering = [other for other in ids if 2 * np.count_nonzero(inside == other) > len(inside)]
            assert covering == ([holder] if holder else [])


def test_half_is_not_enough() -> None:
    truth = np.array([[1, 1, 1, 1]])
    assert holders(np.array([[2, 2, 0, 0]]), truth, [1, 2]).tolist() == [0, 0]
    assert holders(np.array([[2, 2, 2, 0]]), truth, [1, 2]).tolist() == [2, 0]


def test_exchanged_objects_are_held_by_each_other() -> None:
    truth = np.array([[1, 1, 2, 2, 0]])
    assert holders(np.array([[2, 2, 1, 1, 0]]), truth, [2, 1]).tolist() == [1, 2]
    assert holders(np.array([[0, 0, 1, 1, 0]]), truth, [1, 2]).tolist() == [0, 1]
    assert holders(truth, truth, []).tolist() == []


def test_absent_object_has_no_holder() -> None:
    assert holders(np.zeros((2, 2), int), np.zeros((2, 2), int), [1]).tolist() == [0]


def test_sizes_must_agree() -> None:
    with pytest.raises(DataError, match="size"):
        holders(np.zeros((2, 2), int), np.zeros((2, 3), int), [1])


@pytest.mark.parametrize(
    ("held_by", "expected"), [([], 0), ([1, 1, 0], 0), ([0, 2], 1), ([2, 0, 2, 2], 1), ([2, 1, 2], 3), ([0, 0, 1], 0)]
)
def test_switches_are_changes_of_the_covering_object(held_by: list[int], expected: int) -> None:
    assert identity_switches(held_by, 1) == expected
