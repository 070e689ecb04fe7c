from __future__ import annotations

import pickle
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.metrics.reference import slow_decay
from voslab.core import DataError, generator
from voslab.metrics import (
    DAVISScore,
    Statistics,
    boundary_f,
    davis_score,
    jaccard,
    score_frame,
    scored_frames,
    statistics,
)

GOLDEN = Path(__file__).parents[1] / "golden"


def rows_of(*objects: tuple[int, int, int]) -> NDArray[np.float64]:
    """Rows with random scores for (sequence, object, number of frames)."""
    parts = [
        np.column_stack(
            [
                np.full(n, sequence),
                np.full(n, object_id),
                np.arange(1, n + 1),
                generator("rows", sequence, object_id).random((n, 2)),
            ]
        )
        for sequence, object_id, n in objects
    ]
    return np.concatenate(parts)


def collect(metric: DAVISScore, rows: NDArray[np.float64]) -> DAVISScore:
    for row in rows:
        metric.update(int(row[0]), [int(row[2])], [int(row[1])], row[None, None, 3:])
    return metric


def test_golden_statistics() -> None:
    with np.load(GOLDEN / "metrics_pairs.npz") as golden:
        for i, expected in enumerate(golden["stats"]):
            series = golden[f"series_{i:02}"]
            ours = statistics(series)
            assert ours.mean == pytest.approx(expected[0], abs=1e-12)
            assert ours.recall == pytest.approx(expected[1], abs=1e-12)
            if len(series) < 256:
                assert ours.decay == pytest.approx(expected[2], abs=1e-12)


def test_decay_of_a_thousand_frames_by_hand() -> None:
    # Quarters are frames 0..250 and 749..999.
    series = np.full(1000, 0.5)
    series[:251], series[749:] = 1.0, 0.25
    ours = statistics(series)
    assert ours == Statistics(pytest.approx((251 + 251 * 0.25 + 498 * 0.5) / 1000, abs=1e-15), 0.251, 0.75)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=700))
def test_decay_equals_exact_arithmetic(series: list[float]) -> None:
    assert statistics(series).decay == pytest.approx(slow_decay(series), abs=1e-12)


def test_nan_is_ignored_in_means_but_counts_as_a_miss() -> None:
    ours = statistics([np.nan, 0.8, 0.6, 0.4, np.nan])
    assert ours.mean == pytest.approx(0.6)
    assert ours.recall == 0.4
    assert ours.decay == pytest.approx(0.8 - 0.4)


def test_series_without_numbers_are_nan() -> None:
    np.testing.assert_equal(astuple(statistics([])), (np.nan, np.nan, np.nan))
    np.testing.assert_equal(astuple(statistics([np.nan] * 6)), (np.nan, 0.0, np.nan))


def test_given_and_last_frame_are_not_scored() -> None:
    assert list(scored_frames(5)) == [1, 2, 3]
    assert list(scored_frames(5, first=2)) == [3]
    assert all(not scored_frames(count) for count in (0, 1, 2))
    assert not scored_frames(5, first=4)


def test_score_frame_scores_each_object_and_no_other() -> None:
    truth = generator("labels").choice([0, 3, 300], (40, 60)).repeat(3, axis=0).repeat(3, axis=1)
    prediction = np.roll(truth, 4, axis=1)
    prediction[:30][prediction[:30] == 0] = 77
    scores = score_frame(prediction, truth, [300, 3, 9])
    assert scores.dtype == np.float64
    for row, object_id in zip(scores, [300, 3, 9], strict=True):
        assert tuple(row) == (
            jaccard(prediction == object_id, truth == object_id),
            boundary_f(prediction == object_id, truth == object_id),
        )
    assert scores[2].tolist() == [1.0, 1.0]
    assert score_frame(prediction, truth, []).shape == (0, 2)


def test_sequences_without_scores_are_left_out() -> None:
    table = davis_score(np.array([[0, 1, 1, 0.8, 0.6], [3, 1, 1, np.nan, np.nan]]))
    assert table.sequences("J") == {0: 0.8}


def test_data_set_score_is_the_mean_over_objects_not_sequences() -> None:
    rows = rows_of((0, 1, 9), (1, 1, 5), (1, 4, 12))
    rows[:9, 3:], rows[9:14, 3:], rows[14:, 3:] = (0.9, 0.6), (0.3, 0.3), (0.6, 0.0)
    score = davis_score(rows)
    assert [(o.sequence, o.object, o.frames) for o in score.objects] == [(0, 1, 9), (1, 1, 5), (1, 4, 12)]
    assert [o.boundary.mean for o in score.objects] == pytest.approx([0.6, 0.3, 0.0])
    expected = {
        "J&F-Mean": 0.45,
        "J-Mean": 0.6,
        "J-Recall": 2 / 3,
        "J-Decay": 0,
        "F-Mean": 0.3,
        "F-Recall": 1 / 3,
        "F-Decay": 0,
    }
    assert score.metrics() == pytest.approx(expected, abs=1e-12)
    assert list(score.metrics()) == list(expected)


def test_order_of_rows_does_not_matter() -> None:
    rows = rows_of((0, 1, 60), (0, 2, 31), (2, 1, 7), (1, 1, 300))
    shuffled = generator("shuffle").permutation(rows)
    assert davis_score(shuffled) == davis_score(rows)
    assert davis_score(rows).objects[0].region == statistics(rows[:60, 3].copy())


def test_frame_scored_twice_is_rejected() -> None:
    rows = rows_of((0, 1, 4), (3, 2, 4))
    with pytest.raises(DataError, match="sequence 3, frame 2, object 2: scored twice"):
        davis_score(np.concatenate([rows, rows[5:6]]))
    with pytest.raises(DataError, match="shape"):
        davis_score(rows[:, :4])


def test_metric_equals_function_and_resets() -> None:
    rows = rows_of((0, 1, 12), (1, 1, 7))
    metric = collect(DAVISScore(), rows)
    assert metric.score() == davis_score(rows)
    assert metric.compute() == davis_score(rows).metrics()
    metric.reset()
    collect(metric, rows[:12])
    assert metric.score() == davis_score(rows[:12])


def test_metric_takes_several_objects_or_none() -> None:
    metric = DAVISScore()
    metric.update(0, [1], [], np.empty((1, 0, 2)))
    metric.update(0, [2], [4, 2], np.array([[[0.1, 0.2], [0.3, 0.4]]]))
    assert [(o.object, o.region.mean, o.boundary.mean) for o in metric.score().objects] == [
        (2, 0.3, 0.4),
        (4, 0.1, 0.2),
    ]
    with pytest.raises(DataError, match="sequence 7, 1 frames, 2 objects"):
        metric.update(7, [3], [1, 2], np.zeros((1, 1, 2)))


def test_metric_forward_returns_the_step_and_keeps_the_rest() -> None:
    metric = DAVISScore()
    first, second = metric(0, [1], [1], np.array([[[0.25, 0.5]]])), metric(0, [2], [1], np.array([[[0.75, 1]]]))
    assert (first["J-Mean"], second["J-Mean"], metric.compute()["J-Mean"]) == (0.25, 0.75, 0.5)


def test_metric_without_rows_is_nan() -> None:
    metric = DAVISScore()
    assert metric.score().objects == ()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert all(np.isnan(value) for value in metric.compute().values())


def test_metric_survives_pickle_and_clone_and_leaves_checkpoints_alone() -> None:
    rows = rows_of((0, 1, 12), (1, 1, 7))
    metric = collect(DAVISScore(), rows[:10])
    assert metric.state_dict() == {}
    for copy in (pickle.loads(pickle.dumps(metric)), metric.clone()):
        assert collect(copy, rows[10:]).score() == davis_score(rows)
    assert metric.score() == davis_score(rows[:10])


def test_dtype_and_device_of_the_model_do_not_round_scores() -> None:
    rows = rows_of((300, 301, 400))
    metric = collect(DAVISScore(), rows)
    torch.nn.ModuleList([metric]).to(torch.bfloat16).half()
    torch.nn.ModuleList([metric]).to("meta")
    assert collect(metric, rows_of((301, 1, 5))).score() == davis_score(np.concatenate([rows, rows_of((301, 1, 5))]))
