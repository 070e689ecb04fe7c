"""STCN on EfficientNet-Lite with a light value encoder and a decoder that sees the previous masks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.methods.stcn.networks import light
from tests.methods.videos import frame, masks, video
from voslab.core import Masks
from voslab.nn.encoders import LightMaskEncoder
from voslab.nn.inference import for_inference


@torch.no_grad()
def test_a_frame_is_encoded_once() -> None:
    network, seen = light(), []
    network.encoder.register_forward_hook(lambda *_: seen.append(1))
    for _ in video(network, 5, objects=3, late=2):
        pass
    assert len(seen) == 5


@pytest.mark.parametrize("previous", [False, True])
def test_gradients_reach_every_parameter_through_three_frames(previous: bool) -> None:
    network = light(previous_mask=previous, value_channels=64).train()
    state = network.begin(frame(0), masks(2))
    for index in (1, 2):
        logits, state = network.step(frame(index), state)
    logits.softmax(1)[:, 1].mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@torch.no_grad()
def test_values_do_not_depend_on_other_objects_order_or_chunk() -> None:
    network, given = light(), masks(3)
    features = network.encoder(network.normalise(frame(0).image))
    values = network.value(frame(0).image, features, given)
    order = torch.tensor([2, 0, 1])
    permuted = network.value(frame(0).image, features, Masks(given.probs[:, order], given.slot_mask))
    torch.testing.assert_close(permuted, values[:, order])
    network.object_chunk = 1
    torch.testing.assert_close(network.value(frame(0).image, features, given), values)


@torch.no_grad()
def test_every_pixel_of_a_mask_changes_the_value() -> None:
    network, given = light(), masks(1)
    features = network.encoder(network.normalise(frame(0).image))
    values = network.value(frame(0).image, features, given)
    for row, column in ((0, 0), (5, 9), (17, 30)):
        changed = given.probs.clone()
        changed[0, 0, row, column] = 1 - changed[0, 0, row, column]
        assert not torch.equal(network.value(frame(0).image, features, given.with_probs(changed)), values)


@pytest.mark.parametrize("previous", [False, True])
@torch.no_grad()
def test_the_decoder_sees_the_previous_masks_if_asked(previous: bool) -> None:
    network = light(previous_mask=previous)
    *_, state = video(network, 3)
    other = state.masks.with_probs(1 - state.masks.probs)
    query, memory = network.encode(frame(4).image), network.memorise(state)
    readout = network.read(query, memory)
    results = [network.decode(query, network.join_masks(readout, each)) for each in (state.masks, other)]
    assert torch.equal(*results) is not previous


@torch.no_grad()
def test_inference_changes_no_probability() -> None:
    network = light()
    state = network.begin(frame(0), masks(2))
    before, _ = network.step(frame(1), replace(state))
    for_inference(network)
    after, _ = network.step(frame(1), network.begin(frame(0), masks(2)))
    torch.testing.assert_close(after.softmax(1), before.softmax(1), rtol=1e-4, atol=1e-5)


def test_channels_double_with_the_stride() -> None:
    assert LightMaskEncoder((24, 40, 112), 6).channels == (6, 12, 24)
