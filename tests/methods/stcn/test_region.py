"""`region`: masks are decoded near the previous ones only, and frames that are not retained encoded near them only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.methods.stcn.networks import light
from tests.methods.videos import video
from voslab.core import Frame, Masks
from voslab.methods.stcn.network import STCN
from voslab.methods.stcn.state import STCNState

SIDE = 24
WHOLE = (SIDE, SIDE)
OBJECTS = (9, 9), (10, 11)


def frame(index: int) -> Frame:
    """A frame of 24x24 cells."""
    return Frame(index, torch.rand(1, 3, 16 * SIDE, 16 * SIDE, generator=torch.Generator().manual_seed(index)))


def cells(*objects: tuple[int, int]) -> Masks:
    """Masks of one cell each, by row and column."""
    probs = torch.zeros(1, len(objects), 16 * SIDE, 16 * SIDE)
    for i, (row, column) in enumerate(objects):
        probs[0, i, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = 1
    return Masks(probs, torch.ones(1, len(objects), dtype=torch.bool))


def encoded(network: STCN) -> list[tuple[int, ...]]:
    """Rows and columns of cells of each frame that the key encoder sees, as they come."""
    seen: list[tuple[int, ...]] = []
    network.key.register_forward_hook(lambda *given: seen.append(tuple(given[2].shape[-2:])))
    return seen


def step(network: STCN, index: int, state: STCNState) -> tuple[torch.Tensor, STCNState]:
    """A step whose masks are set: those of a random network mean nothing."""
    logits, state = network.step(frame(index), state)
    return logits, replace(state, masks=cells(*OBJECTS))


@pytest.mark.parametrize("encoder", [{}, {"mask_backbone": "efficientnet_lite0"}], ids=["light", "full"])
@torch.no_grad()
def test_frames_that_are_retained_are_encoded_as_a_whole_and_decoded_near_the_masks(encoder: dict[str, Any]) -> None:
    network = light(region=3, memory_every=3, **encoder)
    state = network.begin(frame(0), cells(*OBJECTS))
    seen, read = encoded(network), []
    for index in range(1, 8):
        logits, state = step(network, index, state)
        read.append(state.memory.banks[0].readable)
        outside = logits.argmax(1)[0].clone()
        # Rows 6 to 13 and columns 6 to 14, and further to multiples of four cells.
        outside[16 * 4 : 16 * 16, 16 * 4 : 16 * 16] = 0
        assert not outside.any()
    # Twice the margin: rows 3 to 16 and columns 3 to 17. The first frame is encoded when it is memorised.
    box, whole, part = (20, 20), SIDE * SIDE, 20 * 20
    assert seen == [WHOLE, box, box, WHOLE, box, box, WHOLE, box]
    assert read == [whole, whole + part, whole + part, 2 * whole, 2 * whole + part, 2 * whole + part, 3 * whole]


@torch.no_grad()
def test_a_region_that_covers_the_frame_changes_nothing() -> None:
    for expected, found in zip(video(light(), 7, 2, late=3), video(light(region=10), 7, 2, late=3), strict=True):
        torch.testing.assert_close(found.masks.probs, expected.masks.probs)


@torch.no_grad()
def test_without_a_mask_the_whole_frame_is_searched() -> None:
    network = light(region=1)
    seen, state = encoded(network), network.begin(frame(0), cells((4, 4)))
    for index in (1, 2):
        _, state = network.step(
            frame(index), replace(state, masks=cells((4, 4)).with_probs(torch.zeros(1, 1, 16 * SIDE, 16 * SIDE)))
        )
    assert seen == [WHOLE] * 3


@torch.no_grad()
def test_a_frame_with_given_masks_is_memorised_as_a_whole() -> None:
    network = light(region=2, memory_every=10)
    state = network.begin(frame(0), cells(*OBJECTS))
    for index in (1, 2):
        _, state = step(network, index, state)
    _, state = step(network, 3, network.add(frame(2), cells((8, 1)), state))
    assert [bank.readable for bank in state.memory.banks] == [2 * SIDE * SIDE, SIDE * SIDE]


@torch.no_grad()
def test_what_others_read_of_a_frame_is_of_the_whole_frame() -> None:
    network = light(region=2)
    state = network.begin(frame(0), cells(*OBJECTS))
    _, state = step(network, 1, state)
    assert state.encoded is not None
    assert state.encoded.box is not None
    assert network.held_features(state) is None
    inputs, _ = network.compare(state)
    assert inputs.query.shape[-2:] == WHOLE


def test_training_does_not_depend_on_a_region() -> None:
    logits = []
    for network in (light(), light(region=0)):
        network.train()
        state = network.begin(frame(0), cells(*OBJECTS))
        for index in (1, 2):
            made, state = step(network, index, state)
        logits.append(made)
    torch.testing.assert_close(*logits)


def test_a_negative_region_is_refused() -> None:
    with pytest.raises(ValueError, match="region=-1: must not be negative"):
        light(region=-1)
