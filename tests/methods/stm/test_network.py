from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.golden.support import published
from tests.methods.videos import frames_read
from voslab.core import ConfigError, Frame, Masks
from voslab.methods import registry
from voslab.methods.stm.network import STM
from voslab.methods.stm.weights import convert

SMALL: dict[str, Any] = {
    "backbone": "resnet18",
    "norm": "group",
    "width": 4,
    "key_channels": 4,
    "value_channels": 8,
    "decoder_width": 4,
}


def stm(**switches: Any) -> STM:
    torch.manual_seed(0)
    return STM(**{**SMALL, **switches}).eval()


def frame(index: int, height: int = 32, width: int = 48) -> Frame:
    return Frame(index, torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(index)))


def masks(objects: int = 2) -> Masks:
    ids = torch.arange(48).view(1, 1, 1, 48) // (48 // (objects + 1))
    probs = (ids == torch.arange(1, objects + 1).view(1, -1, 1, 1)).float().expand(1, objects, 32, 48)
    return Masks(probs, torch.ones(1, objects, dtype=torch.bool))


@pytest.mark.parametrize(
    ("previous", "expected"), [(True, [1, 2, 2, 3, 3, 4]), (False, [1, 1, 2, 2, 3, 3])], ids=["previous", "without"]
)
@torch.no_grad()
def test_frames_in_memory_follow_the_policy(previous: bool, expected: list[int]) -> None:
    network = stm(memory_every=2, memory_previous=previous)
    state = network.begin(frame(0), masks())
    read = []
    for index in range(1, 7):
        _, state = network.step(frame(index), state)
        read.append(frames_read(state.memory.banks[0]))
    assert read == expected


@torch.no_grad()
def test_corrected_frame_is_memorised_whatever_the_interval() -> None:
    network = stm(memory_every=5, memory_previous=False)
    _, state = network.step(frame(1), network.begin(frame(0), masks()))
    nothing = Masks(torch.zeros(1, 0, 32, 48), torch.ones(1, 0, dtype=torch.bool))
    _, state = network.step(frame(2), network.add(frame(1), nothing, state, known=masks()))
    assert frames_read(state.memory.banks[0]) == 2


@torch.no_grad()
def test_only_memorised_frames_are_encoded() -> None:
    network = stm(memory_every=3, memory_previous=False)
    calls: list[int] = []
    network.mask_encoder.layer1.register_forward_hook(lambda *_: calls.append(1))
    state = network.begin(frame(0), masks())
    for index in range(1, 8):
        _, state = network.step(frame(index), state)
    assert len(calls) == 3, "frames 0, 3 and 6"


@torch.no_grad()
def test_added_object_corrects_the_memorised_masks() -> None:
    network = stm()
    _, state = network.step(frame(1), network.begin(frame(0), masks(1)))
    state = network.add(frame(1), masks(2), state)
    _, state = network.step(frame(2), state)
    assert [bank.objects for bank in state.memory.banks] == [1, 2]
    assert [frames_read(bank) for bank in state.memory.banks] == [2, 1]
    logits, _ = network.step(frame(3), state)
    assert logits.shape == (1, 4, 32, 48)


@pytest.mark.slow
@torch.no_grad()
def test_a_bounded_memory_stays_bounded_over_two_thousand_frames() -> None:
    network = stm(memory_every=2, memory_bound=3)
    state = network.begin(frame(0), masks(1))
    sizes = []
    for index in range(1, 2001):
        logits, state = network.step(frame(index % 7), state)
        sizes.append((state.memory.nbytes(), state.nbytes()))
    assert len(set(sizes[10:])) == 1
    assert torch.isfinite(logits).all()
    unbounded = stm(memory_every=2)
    state = unbounded.begin(frame(0), masks(1))
    for index in range(1, 101):
        _, state = unbounded.step(frame(index % 7), state)
    assert state.memory.nbytes() > 10 * sizes[-1][0]


@torch.no_grad()
def test_autocast_is_close_to_full_precision() -> None:
    outputs = []
    for enabled in (False, True):
        network = stm()
        state = network.begin(frame(0), masks())
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for index in range(1, 4):
                logits, state = network.step(frame(index), state)
        outputs.append(logits.softmax(1))
    assert (outputs[0] - outputs[1]).abs().max() < 0.05


def test_gradients_flow_through_the_memory_into_the_first_frame() -> None:
    network = stm()
    image = frame(0).image.requires_grad_()
    state = network.begin(Frame(0, image), masks(1))
    for index in (1, 2):
        logits, state = network.step(frame(index), state)
    logits[:, 1].sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


def test_published_keys_match_stm_and_no_other_method() -> None:
    ours = convert(published("stm"))
    assert ours is not None
    assert {key: value.shape for key, value in ours.items()} == {k: v.shape for k, v in STM().state_dict().items()}
    assert convert(published("crvos")) is None


@pytest.mark.parametrize("wrong", [{"memory_every": 0}, {"memory_bound": 1}], ids=str)
def test_invalid_memory_policy_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        registry.build("stm", {**SMALL, **wrong})
