"""Boxes around masks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voslab.nn.boxes import Box, mask_box

SIDE = st.integers(1, 12)


@given(SIDE, SIDE, st.integers(0, 4), st.integers(0, 2**31))
def test_a_box_holds_all_masks_and_its_margin_and_no_more(height: int, width: int, margin: int, seed: int) -> None:
    shown = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed)) > 0.95
    box = mask_box(shown, margin)
    near = torch.nn.functional.max_pool2d(shown.float().amax((0, 1))[None, None], 2 * margin + 1, 1, margin)[0, 0] > 0
    if box is None:
        assert not near.any()
        return
    inside = box.paste(torch.ones(1), torch.zeros(height, width)).bool()
    assert not near[~inside].any()
    for edge in (box.cut(near)[0], box.cut(near)[-1], box.cut(near)[:, 0], box.cut(near)[:, -1]):
        assert edge.any()


@given(SIDE, SIDE, st.integers(0, 4), st.integers(1, 5), st.integers(0, 2**31))
def test_edges_at_multiples_hold_the_smallest_box_and_less_than_a_multiple_more(
    height: int, width: int, margin: int, multiple: int, seed: int
) -> None:
    shown = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(seed)) > 0.9
    tight, small = mask_box(shown, 0), mask_box(shown, margin)
    if tight is None or small is None:
        assert tight is small
        return
    large = tight.enlarged(margin, (height, width), multiple)
    for (low, high), (first, end), length in zip(small, large, (height, width), strict=True):
        assert low - multiple < first <= low
        assert high <= end < high + multiple
        assert first % multiple == 0
        assert end % multiple == 0 or end == length


def test_a_box_inside_another_cuts_the_same_from_what_the_other_cut() -> None:
    box, outer, x = Box((3, 5), (2, 6)), Box((1, 7), (2, 8)), torch.rand(2, 9, 9)
    assert torch.equal(box.inside(outer).cut(outer.cut(x)), box.cut(x))


@pytest.mark.parametrize("scale", [1, 4])
def test_what_is_cut_can_be_pasted(scale: int) -> None:
    box, x = Box((1, 3), (0, 2)), torch.rand(2, 4 * scale, 5 * scale)
    part = box.cut(x, scale)
    assert part.shape == (2, 2 * scale, 2 * scale)
    pasted = box.paste(part, torch.zeros_like(x), scale)
    assert torch.equal(box.cut(pasted, scale), part)
    assert pasted.count_nonzero() == part.count_nonzero()
