from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from voslab.core import DataError
from voslab.studio.proposer import Click, GrabCut, Prompt

SIZE = (120, 160)


def scene() -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """Two noisy bright discs on a noisy dark ground."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    left, right = (((rows - 60) ** 2 + (columns - x) ** 2) < 22**2 for x in (45, 115))
    image = rng.integers(0, 50, (*SIZE, 3)) + np.where(left | right, 170, 20)[..., None]
    return image.astype(np.uint8), left, right


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_box_gives_the_object_in_it() -> None:
    image, left, right = scene()
    mask = GrabCut().propose(image, Prompt(box=(18, 33, 72, 87)))
    assert iou(mask, left) > 0.95
    assert not (mask & right).any()


def test_a_click_gives_the_object_under_it() -> None:
    image, left, right = scene()
    mask = GrabCut().propose(image, Prompt([Click(115, 60)]))
    assert iou(mask, right) > 0.9
    assert not (mask & left).any()


def test_a_negative_click_removes_a_part() -> None:
    image, left, right = scene()
    both = GrabCut().propose(image, Prompt(box=(10, 30, 150, 90)))
    assert iou(both, left | right) > 0.9
    mask = GrabCut().propose(image, Prompt([Click(115, 60, False)], (10, 30, 150, 90)))
    assert mask[60, 45]
    assert not mask[60, 115]


def test_a_correction_keeps_what_is_far_from_the_clicks() -> None:
    image, left, _ = scene()
    wrong = left.copy()
    wrong[40:80, 60:80] = False  # the right side of the disc is missing
    odd = wrong.copy()
    odd[5:10, 140:150] = True  # far away, on the background
    mask = GrabCut(reach=0.4).propose(image, Prompt([Click(62, 60)], mask=odd))
    assert mask[60, 62]
    assert iou(mask & (np.arange(SIZE[1]) < 100), left) > iou(wrong, left)
    np.testing.assert_array_equal(mask[:, 120:], odd[:, 120:])


def test_a_click_changes_the_region_that_it_lies_in_only() -> None:
    image, _, _ = scene()
    both = GrabCut().propose(image, Prompt(box=(10, 30, 150, 90)))
    part = both.copy()
    part[:, 45:60] = False  # an error in the left disc
    mask = GrabCut().propose(image, Prompt([Click(50, 60)], mask=part))
    np.testing.assert_array_equal(mask[:, 90:], both[:, 90:])
    assert mask[60, 50]


def test_a_box_without_contrast_is_an_ellipse_to_be_corrected() -> None:
    mask = GrabCut().propose(np.full((*SIZE, 3), 90, np.uint8), Prompt(box=(50, 40, 110, 80)))
    assert mask.sum() > 0.1 * 60 * 40


def test_large_images_are_segmented_at_a_smaller_size() -> None:
    image, left, _ = scene()
    large = image.repeat(6, 0).repeat(6, 1)
    mask = GrabCut(size=120).propose(large, Prompt(box=(6 * 18, 6 * 33, 6 * 72, 6 * 87)))
    assert mask.shape == (720, 960)
    assert iou(mask, left.repeat(6, 0).repeat(6, 1)) > 0.9


def test_the_same_prompt_gives_the_same_mask() -> None:
    image, _, _ = scene()
    prompt = Prompt([Click(50, 70)], (18, 33, 72, 87))
    np.testing.assert_array_equal(GrabCut().propose(image, prompt), GrabCut().propose(image, prompt))


@pytest.mark.parametrize(
    "prompt", [Prompt(), Prompt([Click(50, 50, False)]), Prompt(box=(500, 500, 600, 600)), Prompt(box=(50, 50, 50, 80))]
)
def test_a_prompt_without_an_object_is_refused(prompt: Prompt) -> None:
    with pytest.raises(DataError, match="neither a box nor a positive click"):
        GrabCut().propose(scene()[0], prompt)


def test_a_box_of_the_whole_image_is_the_whole_image() -> None:
    assert GrabCut().propose(scene()[0], Prompt(box=(-5, -5, 500, 500))).all()
