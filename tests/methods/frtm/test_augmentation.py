from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from voslab.core import generator
from voslab.methods.frtm import augmentation
from voslab.methods.frtm.augmentation import SPECS, TRIALS, augmented, background_moves, object_moves

RED, GREEN = (220, 20, 20), (20, 200, 20)


def scene(box: tuple[slice, slice] = (slice(20, 36), slice(30, 60))) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A red object on green."""
    mask = np.zeros((60, 96), bool)
    mask[box] = True
    return np.where(mask[:, :, None], RED, GREEN).astype(np.uint8), mask


def test_the_object_moves_and_nothing_of_it_stays_behind() -> None:
    image, mask = scene()
    found = list(augmented(image, mask, 8, generator(0)))
    assert len(found) == 8
    for moved, label in found:
        assert 0 < label.sum() < label.size
        red = moved[:, :, 0].astype(int) > moved[:, :, 1]
        inside = red[label > 0].mean() if label.sum() > 20 else 1.0
        assert inside > 0.8
        assert red[label == 0].mean() < 0.02
    assert len({label.tobytes() for _, label in found}) == 8


def test_the_generator_decides_what_is_drawn() -> None:
    image, mask = scene()
    first, second, other = (list(augmented(image, mask, 3, generator(seed))) for seed in (0, 0, 1))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("whole", [False, True])
def test_nothing_is_drawn_for_an_object_that_is_empty_or_fills_the_image(whole: bool) -> None:
    image, mask = scene()
    assert list(augmented(image, np.full_like(mask, whole), 4, generator(0))) == []


def test_an_object_that_no_move_leaves_visible_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    image, mask = scene()
    away = np.array([[1.0, 0, 1000], [0, 1, 1000], [0, 0, 1]])
    seen: list[int] = []
    monkeypatch.setattr(augmentation, "move_matrix", lambda *args, **_: seen.append(1) or away)
    assert list(augmented(image, mask, 4, generator(0))) == []
    assert len(seen) == TRIALS * SPECS


@pytest.mark.parametrize("size", [(60, 96), (5, 7), (200, 10), (1, 1)])
def test_a_trial_has_nineteen_moves_at_any_size(size: tuple[int, int]) -> None:
    assert len(object_moves(size, generator(0))) == len(background_moves(generator(0))) == SPECS


@pytest.mark.parametrize("size", [(5, 7), (1, 9), (3, 40)])
def test_tiny_images_are_augmented(size: tuple[int, int]) -> None:
    image = generator(0).integers(0, 255, (*size, 3), np.uint8)
    mask = np.zeros(size, bool)
    mask[0, 0] = True
    for moved, label in augmented(image, mask, 3, generator(0)):
        assert (moved.shape, label.shape) == ((*size, 3), size)
