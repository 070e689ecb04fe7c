from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voslab.core import ConfigError, DataError, generator
from voslab.data import Curriculum, choose_objects, sample_frames
from voslab.data.clips.sampling import Milestones


@given(
    length=st.integers(1, 60),
    frames=st.integers(1, 12),
    least=st.integers(1, 6),
    extra=st.integers(0, 30),
    reverse=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_frames_are_ordered_in_range_and_within_the_gaps(
    length: int, frames: int, least: int, extra: int, reverse: float, seed: int
) -> None:
    rng = generator(seed)
    if length < frames:
        with pytest.raises(DataError, match=rf"cow: {length} frames, too short for a clip of {frames}"):
            sample_frames(length, frames, rng, (least, least + extra), reverse, "cow")
        return
    taken = sample_frames(length, frames, rng, (least, least + extra), reverse)
    assert len(taken) == frames
    assert all(0 <= index < length for index in taken)
    steps = np.diff(taken)
    assert (steps > 0).all() or (steps < 0).all()
    if frames > 1 and reverse in {0.0, 1.0}:
        assert (steps[0] < 0) == bool(reverse)
    assert (abs(steps) <= least + extra).all()
    if length > (frames - 1) * (least + extra):
        assert (abs(steps) >= least).all()


def test_every_start_and_every_gap_comes_up() -> None:
    draws = [sample_frames(20, 3, generator(seed), (2, 4)) for seed in range(400)]
    assert {b - a for clip in draws for a, b in pairwise(clip)} == {2, 3, 4}
    assert {clip[0] for clip in draws} >= set(range(12))
    assert max(clip[-1] for clip in draws) == 19


def test_a_short_video_shrinks_only_the_large_gaps() -> None:
    taken = sample_frames(9, 8, generator(0), (3, 30))
    assert sorted(np.diff(taken)) == [1] * 7 or sorted(np.diff(taken)) == [1] * 6 + [2]


def test_clips_are_reversed_with_the_given_probability() -> None:
    backwards = sum(clip[0] > clip[1] for clip in (sample_frames(9, 2, generator(i), (1, 1), 0.3) for i in range(1000)))
    assert 240 < backwards < 360


def test_curriculum_grows_and_stops() -> None:
    stages = Curriculum(start=1, step=5, every=20, cap=26)
    assert [stages.max_gap(epoch) for epoch in (0, 19, 20, 40, 99, 100, 999)] == [1, 1, 6, 11, 21, 26, 26]


@pytest.mark.parametrize("values", [(0, 1, 1, 5), (1, -1, 1, 5), (1, 1, 0, 5), (6, 1, 1, 5)])
def test_curriculum_refuses_nonsense(values: tuple[int, int, int, int]) -> None:
    with pytest.raises(ConfigError, match="Curriculum"):
        Curriculum(*values)


def scene() -> np.ndarray:
    labels = np.zeros((20, 20), np.int32)
    labels[:10, :10] = 300
    labels[10:13, :10] = 7
    labels[13, :5] = 4
    labels[15:] = 255
    return labels


@given(seed=st.integers(0, 2**32), limit=st.integers(1, 5))
def test_objects_are_large_enough_distinct_and_no_void(seed: int, limit: int) -> None:
    chosen = choose_objects(scene(), limit, generator(seed), min_area=6)
    assert len(chosen) == len(set(chosen)) == min(limit, 2)
    assert set(chosen) <= {300, 7}
    assert 255 in choose_objects(scene(), 9, generator(seed), void=None)


def test_objects_of_exactly_the_minimum_area_are_chosen() -> None:
    labels = np.zeros((4, 4), int)
    labels[:2, :2], labels[3, :3] = 5, 7
    assert choose_objects(labels, 2, generator(0), min_area=4) == (5,)


def test_every_object_and_order_comes_up() -> None:
    assert {choose_objects(scene(), 1, generator(seed)) for seed in range(60)} == {(300,), (7,), (4,)}
    assert len({choose_objects(scene(), 3, generator(seed)) for seed in range(200)}) == 6
    assert choose_objects(np.zeros((3, 3), int), 2, generator(0)) == ()


def test_milestones_hold_until_the_next() -> None:
    stages = Milestones(((0, 5), (10, 25), (90, 5)))
    assert [stages.max_gap(epoch) for epoch in (0, 9, 10, 89, 90, 1000)] == [5, 5, 25, 25, 5, 5]


@pytest.mark.parametrize("gaps", [(), ((1, 5),), ((0, 5), (0, 6)), ((0, 0),)])
def test_milestones_begin_at_zero_and_grow(gaps: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ConfigError, match="gaps"):
        Milestones(gaps)
