from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.methods.covos.world import (
    HEIGHT,
    KEYS,
    WIDTH,
    Oracle,
    codec,
    covos,
    frame,
    given,
    noisy,
    small,
    square,
    stcn,
    video,
)
from voslab.core import Masks
from voslab.methods import registry
from voslab.methods.covos.network import CoVOS
from voslab.methods.covos.propagation import Propagated, aggregate_probs
from voslab.nn.aggregation import aggregate_product


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@torch.no_grad()
def test_square_with_known_vectors_is_propagated_exactly(bilinear: bool, bidirectional: bool) -> None:
    network = covos(refine=False, correction=False, bilinear=bilinear, bidirectional=bidirectional)
    assert list(network.parameters()) == [], "what is optional_modules off is not constructed"
    outputs, state = video(network)
    for entry in state.buffered:
        assert torch.equal(entry.probs, small(square(entry.index))), entry.index
        assert entry.features is None
    for index, logits in outputs.items():
        wrong = (logits.argmax(1, keepdim=True) != square(index)).sum()
        assert wrong <= (0 if index in KEYS else 4), "between cells the corners are rounded"


@torch.no_grad()
def test_single_hop_reads_only_key_frames() -> None:
    network = covos(refine=False, multi_hop=False)
    state = network.begin(frame(0), given())
    _, state = network.step(frame(4), state)
    _, state = network.step(frame(2), state)
    assert [entry.index for entry in state.buffered] == [0, 4]
    both, _ = network.propagate(frame(3), state)
    assert torch.equal(both.probs, small(square(3))), "its other list points to a key frame"
    lost = replace(frame(1), codec=replace(codec(1), references=torch.full((1, 2, HEIGHT, WIDTH), 2)))
    assert not network.propagate(lost, state)[0].probs.any()


@torch.no_grad()
def test_objects_beyond_ten_are_decoded_as_if_the_others_were_background() -> None:
    network = covos()
    state = network.begin(frame(0), given(12))
    _, state = network.step(frame(4), state)
    fork = state.clone()
    logits, _ = network.step(frame(2), state)
    two = replace(
        fork, slot_mask=fork.slot_mask[:, 10:], buffered=[replace(p, probs=p.probs[:, 10:]) for p in fork.buffered]
    )
    alone, _ = network.step(frame(2), two)
    # Channels 1 and 2 of the second pass.
    assert torch.allclose(logits[:, 11:], alone[:, 1:], atol=1e-2)
    assert not torch.allclose(logits[:, 1:3], alone[:, 1:], atol=1e-1)


@torch.no_grad()
def test_correction_covers_large_residuals_near_the_foreground() -> None:
    network = covos(stcn())
    state = network.begin(frame(0), given(1))
    _, state = network.step(frame(4), state)
    calm, _ = network.propagate(frame(2), state.clone())
    assert not calm.selected.any()
    assert torch.equal(calm.corrected, calm.probs)
    state.buffered[1] = replace(state.buffered[1], probs=small(square(4)))
    changed, _ = network.propagate(noisy(2), state)
    assert changed.selected.any()
    assert not changed.selected.all()
    added = (changed.corrected - changed.probs)[changed.selected]
    assert torch.allclose(added, torch.ones_like(added), atol=1e-5), "of one object, all mass is its own"


@torch.no_grad()
def test_soft_key_masks_are_propagated_as_probabilities() -> None:
    hard, soft = (covos(stcn(), hard_labels=labels, correction=False) for labels in (True, False))
    for network in (hard, soft):
        _, state = video(network, given(2))
        probs = state.buffered[1].probs
        assert bool(((probs == 0) | (probs == 1)).all()) == network.hard_labels


@torch.no_grad()
def test_base_features_replace_the_encoder() -> None:
    network = covos(features="base")
    assert network.encoder is None
    outputs, state = video(network)
    assert state.buffered[0].features is not None
    assert torch.equal(state.buffered[0].features, Oracle().features(frame(0)))
    assert torch.isfinite(outputs[1]).all()
    with pytest.raises(ValueError, match="features=base: a CopyFirst has none to offer"):
        covos(registry.build("copy_first", {}), features="base")


SWITCHES: list[dict[str, Any]] = [
    {"confidence": False},
    {"correction": False},
    {"refine": False},
    {"bidirectional": False},
    {"multi_hop": False},
    {"threshold": 0.3},
    {"dilation": 0},
    {"reference": "all"},
    {"scale": 1.0},
]


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: next(iter(switch)))
@torch.no_grad()
def test_every_switch_changes_the_result_of_the_same_weights(switch: dict[str, Any]) -> None:
    published = covos(stcn())
    weights = published.state_dict()

    def last(network: CoVOS) -> Tensor:
        network.load_state_dict({key: weights[key] for key in network.state_dict()})
        state = network.begin(frame(0), given(2))
        for index in (4, 2):
            _, state = network.step(noisy(index), state)
        return network.step(noisy(1), state)[0]

    assert not torch.allclose(last(published), last(covos(stcn(), **switch)), atol=1e-3)


@torch.no_grad()
def test_buffered_masks_are_neither_corrected_nor_decoded() -> None:
    network = covos()
    state = network.begin(frame(0), given(1))
    _, state = network.step(frame(4), state)
    seen, state = network.propagate(noisy(2), state)
    assert not torch.equal(seen.corrected, seen.probs)
    assert torch.equal(state.buffered[-1].probs, seen.probs)
    assert torch.equal(seen.probs, small(square(2)))
    assert seen.warped is not None
    assert torch.equal(state.buffered[-1].features, seen.warped)
    assert not torch.equal(seen.features, seen.warped)


@torch.no_grad()
def test_order_of_the_decoder_inputs() -> None:
    network = covos()
    assert network.decoder is not None
    rng = torch.Generator().manual_seed(0)
    slot_mask = torch.ones(1, 2, dtype=torch.bool)
    own, other, probs, corrected = (torch.rand(1, c, 4, 6, generator=rng) for c in (8, 8, 2, 2))
    made = network.decode(Propagated(own, other, probs, corrected, probs[:, :1] > 2), slot_mask)
    empty = torch.zeros(1, 8, 4, 6)
    propagated, patched = (torch.cat([aggregate_probs(p, slot_mask), empty], 1) for p in (probs, corrected))
    weight = network.decoder.weigh(own, other)
    assert weight is not None
    odds = network.decoder(propagated, propagated * weight, own, patched)[:, :2]
    odds = torch.nn.functional.interpolate(odds, (16, 24), mode="bilinear")
    assert torch.allclose(made, aggregate_product(odds, slot_mask), atol=1e-5)


@torch.no_grad()
def test_the_decoder_runs_near_the_masks_only() -> None:
    whole, near = covos(), covos(region=9)
    near.load_state_dict(whole.state_dict())
    rng = torch.Generator().manual_seed(0)
    slot_mask = torch.ones(1, 2, dtype=torch.bool)
    own, other = (torch.rand(1, 8, 40, 60, generator=rng) for _ in range(2))
    probs = torch.zeros(1, 2, 40, 60)
    probs[:, 0, 12:16, 20:26] = probs[:, 1, 15:19, 30:33] = 1
    propagated = Propagated(own, other, probs, probs, probs[:, :1] > 2)
    seen: list[tuple[int, ...]] = []
    assert near.decoder is not None
    near.decoder.conv2.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[-2:])))
    expected, found = (network.decode(propagated, slot_mask) for network in (whole, near))
    assert seen == [(7 + 18, 13 + 18)]
    # The decoder sees 8 cells around a cell, and its result is interpolated between cells.
    inside = (slice(None), slice(None), slice(4 * 12, 4 * 19), slice(4 * 20, 4 * 33))
    assert torch.allclose(found[inside], expected[inside], atol=1e-4)
    outside = torch.ones(160, 240, dtype=torch.bool)
    outside[4 * 3 : 4 * 28, 4 * 11 : 4 * 42] = False
    assert (found.argmax(1)[0][outside] == 0).all()
    assert (expected.argmax(1)[0] == found.argmax(1)[0])[~outside].float().mean() > 0.95
    nothing = near.decode(propagated._replace(probs=probs * 0, corrected=probs * 0), slot_mask)
    assert not nothing.argmax(1).any()
    assert len(seen) == 1, "without masks nothing is decoded"


@torch.no_grad()
def test_objects_added_later_are_not_matched_with_earlier_frames() -> None:
    network = covos(Oracle())
    state = network.begin(frame(0), given(1))
    _, state = network.step(frame(4), state)
    state = network.add(frame(4), Masks(given(1, 1).probs, torch.ones(1, 1, dtype=torch.bool)), state)
    seen, _ = network.propagate(noisy(1), state)
    assert seen.selected.any()
    added = seen.corrected - seen.probs
    assert added[:, 0].sum() > 0
    assert not added[:, 1].any(), "frame 0 is nearer, and knows no second object"


@pytest.mark.parametrize(("bilinear", "value"), [(False, 1.0), (True, 0.5)])
@torch.no_grad()
def test_masks_between_cells_are_nearest_or_interpolated(bilinear: bool, value: float) -> None:
    network = covos(refine=False, correction=False, bilinear=bilinear)
    state = network.begin(frame(0), given(1))
    motion = torch.zeros(1, 4, HEIGHT, WIDTH)
    motion[:, 0] = 2
    references = torch.tensor([0, -1]).view(1, 2, 1, 1).expand(1, 2, HEIGHT, WIDTH)
    half = replace(frame(1), codec=replace(codec(1), motion=motion, references=references))
    seen, _ = network.propagate(half, state)
    # The cell left of the square reads halfway into its first column.
    assert seen.probs[0, 0, 3, 2] == value
