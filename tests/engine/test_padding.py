from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voslab.core import Frame, Masks
from voslab.core.segmenter import Padding
from voslab.core.types import IMAGENET_MEAN
from voslab.engine import crop, pad
from voslab.engine.padding import pads

SIZES = st.integers(1, 70)
PADDINGS: list[Padding] = ["zeros", "mean", "reflect"]


def pair(height: int, width: int) -> tuple[Frame, Masks]:
    image = torch.rand(2, 3, height, width)
    return Frame(3, image), Masks((torch.rand(2, 2, height, width) > 0.5).float(), torch.ones(2, 2, dtype=torch.bool))


@given(height=SIZES, width=SIZES, stride=st.sampled_from([1, 4, 16, 32]), padding=st.sampled_from(PADDINGS))
def test_padded_sizes_are_multiples_of_the_stride(height: int, width: int, stride: int, padding: Padding) -> None:
    frame, masks = pair(height, width)
    padded, padded_masks, p = pad(frame, masks, stride, padding)
    assert padded_masks is not None
    assert padded.image.shape[-2] % stride == 0
    assert padded.image.shape[-1] % stride == 0
    assert padded.image.shape[-2] - height < stride
    assert padded.image.shape[-2:] == padded_masks.probs.shape[-2:]
    assert torch.equal(crop(padded.image, p), frame.image)
    assert torch.equal(crop(padded_masks.probs, p), masks.probs)
    assert padded.index == 3


def test_480p_gets_five_columns_on_each_side() -> None:
    assert pads((480, 854), 16, "zeros") == (5, 5, 0, 0)
    assert pads((480, 854), 16, "reflect") == (5, 5, 0, 0)


def test_odd_padding_matches_the_published_code() -> None:
    assert pads((481, 853), 16, "zeros") == (5, 6, 7, 8)
    assert pads((481, 853), 16, "reflect") == (6, 5, 8, 7)


def test_multiples_of_the_stride_are_not_padded() -> None:
    frame, masks = pair(32, 48)
    assert pad(frame, masks, 16, "reflect")[:2] == (frame, masks)


@pytest.mark.parametrize("size", [(1, 1), (1, 17), (5, 9), (17, 31), (33, 47)])
def test_reflection_equals_numpy(size: tuple[int, int]) -> None:
    frame, masks = pair(*size)
    padded, padded_masks, p = pad(frame, masks, 16, "reflect")
    assert padded_masks is not None
    width = ((0, 0), (0, 0), (p.top, p.bottom), (p.left, p.right))
    assert np.array_equal(padded.image.numpy(), np.pad(frame.image.numpy(), width, "reflect"))
    assert np.array_equal(padded_masks.probs.numpy(), np.pad(masks.probs.numpy(), width, "reflect"))


def test_mean_padding_is_zero_after_normalisation() -> None:
    frame, masks = pair(15, 16)
    zeros, empty, _ = pad(frame, masks, 16, "zeros")
    mean, _, _ = pad(frame, masks, 16, "mean")
    assert empty is not None
    assert (zeros.image[..., -1, :] == 0).all()
    assert torch.allclose(mean.image[0, :, -1, 0], torch.tensor(IMAGENET_MEAN))
    assert (empty.probs[..., -1, :] == 0).all()
    assert torch.equal(mean.image[..., :15, :], frame.image)
