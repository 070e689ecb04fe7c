from __future__ import annotations

import math

import numpy as np
import pytest

from voslab.metrics import davis_score, youtube_vos_score


def rows(scores: dict[tuple[int, int], list[tuple[float, float]]]) -> np.ndarray:
    """Rows [sequence, object, frame, J, F] of each object's frames."""
    return np.array([(s, o, t, j, f) for (s, o), series in scores.items() for t, (j, f) in enumerate(series, 1)])


def test_g_is_the_mean_of_four_means_over_objects() -> None:
    table = davis_score(
        rows(
            {
                (0, 1): [(1.0, 0.5)],
                (0, 4): [(0.2, 0.2), (0.4, 0.4)],
                (1, 1): [(0.0, 0.1)] * 10,
                (1, 4): [(0.8, 0.6)],
            }
        )
    )
    metrics = youtube_vos_score(table, [frozenset({4}), frozenset()])
    expected = {"J-Seen": 1.8 / 3, "J-Unseen": 0.3, "F-Seen": 1.2 / 3, "F-Unseen": 0.3}
    assert metrics == pytest.approx({"G-Mean": sum(expected.values()) / 4, **expected})
    assert next(iter(metrics)) == "G-Mean"


def test_g_is_nan_without_unseen_objects() -> None:
    metrics = youtube_vos_score(davis_score(rows({(0, 1): [(1.0, 0.5)]})), [frozenset()])
    assert (metrics["J-Seen"], metrics["F-Seen"]) == (1.0, 0.5)
    assert math.isnan(metrics["G-Mean"])
    assert math.isnan(metrics["J-Unseen"])
    assert all(map(math.isnan, youtube_vos_score(davis_score(np.zeros((0, 5))), []).values()))
