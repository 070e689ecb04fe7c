from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voslab.core import VOID, ConfigError
from voslab.data import Augmentation, build_transform
from voslab.data.clips.dataset import ClipDataset, ClipSettings, RawClip
from voslab.data.clips.distraction import Distraction, add_lookalike, add_occluder

TARGET, BACKGROUND, OTHER = 200, 30, 120
SIZE = (60, 90)


def clip(frames: int = 4) -> tuple[list[Any], list[Any]]:
    """A bright square that moves to the right on a dark ground, below a strip of void."""
    images = [np.full((*SIZE, 3), BACKGROUND, np.uint8) for _ in range(frames)]
    slots = [np.zeros(SIZE, np.uint8) for _ in range(frames)]
    for t in range(frames):
        square = (slice(24, 36), slice(30 + 3 * t, 42 + 3 * t))
        images[t][square], slots[t][square] = TARGET, 1
        slots[t][:2] = VOID
    return images, slots


@given(seed=st.integers(0, 2**32 - 1))
def test_a_lookalike_changes_the_background_only(seed: int) -> None:
    images, slots = clip()
    for before, after, labels in zip(
        images, add_lookalike(images, slots, np.random.default_rng(seed)), slots, strict=True
    ):
        changed = (before != after).any(2)
        assert not (changed & (labels != 0)).any()
        assert after.shape == before.shape
        assert after.dtype == np.uint8


def test_a_lookalike_is_a_copy_of_the_target() -> None:
    images, slots = clip()
    areas = []
    for seed in range(20):
        frames = add_lookalike(images, slots, np.random.default_rng(seed))
        areas.append(int(((frames[0][..., 0] > 190) & (slots[0] == 0)).sum()))
    # Whole copies without their soft border are 10 x 10 pixels; some are partly behind the target or out of the frame.
    assert 100 <= max(areas) <= 144
    assert sum(area > 30 for area in areas) > 10


@given(seed=st.integers(0, 2**32 - 1))
def test_an_occluder_is_background_wherever_it_is_seen(seed: int) -> None:
    images, slots = clip()
    donor = np.full((20, 20, 3), OTHER, np.uint8)
    frames, labels = add_occluder(images, slots, donor, np.ones((20, 20), bool), np.random.default_rng(seed))
    for before, after, old, new in zip(images, frames, slots, labels, strict=True):
        changed = (before != after).any(2)
        assert not (new[changed] == 1).any()
        np.testing.assert_array_equal(new[~changed & (old != 1)], old[~changed & (old != 1)])
        assert ((new == VOID) == (old == VOID)).all()


def test_an_occluder_hides_a_part_of_the_target_after_the_first_frame() -> None:
    images, slots = clip()
    donor = np.full((20, 20, 3), OTHER, np.uint8)
    hidden = 0
    for seed in range(20):
        _, labels = add_occluder(images, slots, donor, np.ones((20, 20), bool), np.random.default_rng(seed))
        hidden += any(
            (after == 1).sum() < 0.8 * (before == 1).sum() for before, after in zip(slots[1:], labels[1:], strict=True)
        )
    assert hidden == 20


def test_clips_without_a_target_or_an_occluder_are_unchanged() -> None:
    images, slots = clip()
    rng = np.random.default_rng(0)
    empty = [np.zeros(SIZE, np.uint8)] * 4
    assert all(a is b for a, b in zip(add_lookalike(images, empty, rng), images, strict=True))
    donor = np.full((20, 20, 3), OTHER, np.uint8)
    for labels, cutout in ((empty, np.ones((20, 20), bool)), (slots, np.zeros((20, 20), bool))):
        frames, after = add_occluder(images, labels, donor, cutout, rng)
        assert all(a is b for a, b in zip((*frames, *after), (*images, *labels), strict=True))


@pytest.mark.parametrize("values", [{"lookalike": 1.5}, {"occluder": -0.1}])
def test_a_rate_out_of_range_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be probabilities"):
        Distraction(**values)


class Source:
    """The clip above as the only video of a source."""

    def __init__(self, settings: ClipSettings) -> None:
        self.settings = settings

    def __len__(self) -> int:
        return 1

    def draw(self, index: int, epoch: int, rng: np.random.Generator) -> RawClip:
        images, slots = clip()
        return RawClip(images, [labels.astype(np.int32) for labels in slots], VOID, "square")

    def require_object(self, index: int) -> None: ...


def test_clips_are_distracted_as_often_as_the_settings_say() -> None:
    augmentation = Augmentation(SIZE, flip=0)
    plain = ClipSettings(augmentation, frames=4, min_area=1)
    undisturbed = ClipDataset((Source(plain),), build_transform(augmentation), counts=(100,))

    def changed(distraction: Distraction) -> list[bool]:
        source = Source(replace(plain, distraction=distraction))
        clips = ClipDataset((source,), build_transform(augmentation), counts=(100,))
        assert all(torch.equal(clips[0, i].images, clips[0, i].images) for i in range(5))
        return [not torch.equal(clips[0, i].images, undisturbed[0, i].images) for i in range(100)]

    assert not any(changed(Distraction()))
    assert 35 <= sum(changed(Distraction(lookalike=0.5))) <= 65
    assert 35 <= sum(changed(Distraction(occluder=0.5))) <= 65
    assert sum(changed(Distraction(lookalike=1.0, occluder=1.0))) >= 95
