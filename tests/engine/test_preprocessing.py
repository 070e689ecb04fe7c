from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from voslab.engine import Settings
from voslab.engine.preprocessing import working_image, working_masks

CPU = torch.device("cpu")


def test_image_is_reduced_with_its_aspect_ratio_and_never_enlarged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
    whole = working_image(image, Settings(480), CPU)
    assert torch.equal(whole[0], torch.from_numpy(image).permute(2, 0, 1) / 255)
    small = working_image(image, Settings(30), CPU)
    assert small.shape == (1, 3, 30, 50)
    assert torch.allclose(small.mean((2, 3)), whole.mean((2, 3)), atol=0.01)
    assert working_image(np.full((60, 100, 3), 255, np.uint8), Settings(31), CPU).max() <= 1


@given(
    st.integers(6, 40),
    st.lists(st.tuples(st.integers(0, 79), st.integers(0, 119)), min_size=1, max_size=6, unique=True),
)
def test_every_object_keeps_a_pixel(size: int, points: list[tuple[int, int]]) -> None:
    labels = np.zeros((80, 120), np.int64)
    labels[:, 60:] = 99
    for number, point in enumerate(points, 1):
        labels[point] = number
    masks = working_masks(labels, [99, *range(1, len(points) + 1)], Settings(size), CPU)
    assert masks.probs.shape[:3] == (1, len(points) + 1, size)
    assert masks.probs.unique().tolist() == [0, 1]
    assert masks.probs.flatten(2).any(2).all()
    assert masks.slot_mask.all()


def test_distant_objects_share_no_pixel() -> None:
    labels = np.full((80, 120), 99, np.int64)
    labels[11, 33], labels[62, 7] = 1, 2
    masks = working_masks(labels, [99, 1, 2], Settings(10), CPU)
    assert masks.probs.sum(1).unique().tolist() == [1]
    assert masks.probs.flatten(2).sum(2).tolist() == [[148, 1, 1]]
