from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.golden.support import HERE, published
from tests.methods.videos import clip, frame, frames_read, masks, video
from voslab.core.checkpoint import CheckpointMetadata
from voslab.engine import Settings
from voslab.methods.stcn.module import STCNModule
from voslab.methods.stcn.network import STCN
from voslab.methods.stcn.weights import convert
from voslab.training.recipe import Recipe


def small(**parameters: object) -> STCN:
    torch.manual_seed(0)
    tiny = {"backbone": "resnet18", "norm": "group", "width": 8, "key_channels": 8, "value_channels": 16}
    return STCN(**{**tiny, "decoder_width": 8, **parameters}).eval()  # type: ignore[arg-type]


@torch.no_grad()
def test_a_frame_is_encoded_once() -> None:
    network, seen = small(memory_every=1), []
    network.encoder.register_forward_hook(lambda *_: seen.append(1))
    for _ in video(network, 5, objects=3, late=2):
        pass
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("parameters", "kept", "filled"),
    [
        ({"memory_every": 2}, [1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3]),
        ({"memory_every": 2, "memory_previous": True}, [1, 1, 2, 2, 3, 3], [1, 2, 2, 3, 3, 4]),
        ({"memory_every": 1, "memory_bound": 2}, [1, 2, 2, 2, 2, 2], [1, 2, 2, 2, 2, 2]),
        ({}, [1, 1, 1, 1, 1, 2], [1, 1, 1, 1, 1, 2]),
    ],
)
@torch.no_grad()
def test_the_memory_follows_its_policy(parameters: dict[str, object], kept: list[int], filled: list[int]) -> None:
    banks = [state.memory.banks[0] for state in video(small(**parameters), 7)]
    assert [bank.retained for bank in banks] == kept
    assert [frames_read(bank) for bank in banks] == filled


@torch.no_grad()
def test_first_frame_of_a_late_object_is_permanent() -> None:
    states = list(video(small(memory_every=3), 8, late=2))
    frames = [[bank.retained for bank in state.memory.banks] for state in states]
    # Frames 0, 2 (with the new object), 5.
    assert frames == [[1], [1, 0], [2, 1], [2, 1], [2, 1], [3, 2], [3, 2]]


@torch.no_grad()
def test_objects_after_an_empty_first_frame_are_memorised() -> None:
    network = small()
    state = network.begin(frame(0), masks(0))
    for index in (1, 2):
        _, state = network.step(frame(index), state)
    assert state.memory.banks == []
    state = network.add(frame(2), masks(2), state)
    logits, state = network.step(frame(3), state)
    assert state.memory.banks[0].retained == 1
    assert logits.shape == (1, 3, 32, 48)


@torch.no_grad()
def test_late_masks_are_aggregated_with_existing_ones() -> None:
    network = small()
    *_, state = video(network, 3)
    added = network.add(frame(2), masks(1), state).masks.probs
    inside = masks(1).probs[0, 0].bool()
    assert (added[0, 1][inside] > 1 - 1e-4).all()
    assert (added[0, 0][inside] < 1e-4).all()
    # Outside of the new mask the older object's log_odds are squared, as for any single object.
    before = state.masks.probs[0, 0][~inside].double()
    expected = before**2 / (before**2 + (1 - before) ** 2)
    assert (added[0, 0][~inside] - expected).abs().max() < 1e-5
    assert (added > 0).all()


@torch.no_grad()
def test_objects_are_read_and_decoded_independently() -> None:
    network = small(object_chunk=2, top_k=7)
    *_, state = video(network, 2, objects=3)
    query = network.encode(frame(2).image)
    together = network.decode(query, network.read(query, state.memory))
    [bank] = state.memory.banks
    assert bank.values is not None
    for i in range(3):
        own = replace(state.memory, banks=[replace(bank, objects=1, values=bank.values[:, i : i + 1])])
        assert torch.allclose(network.decode(query, network.read(query, own))[:, 0], together[:, i], atol=1e-5)


@torch.no_grad()
def test_half_precision_is_close_to_full_precision() -> None:
    network = small(memory_every=1)
    outputs = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            state = network.begin(frame(0), masks(2))
            for index in (1, 2, 3):
                logits, state = network.step(frame(index), state)
        outputs.append(logits)
    assert torch.isfinite(outputs[1]).all()
    assert (outputs[0].softmax(1) - outputs[1].softmax(1)).abs().max() < 0.05


def module(**recipe: object) -> STCNModule:
    made = Recipe(partial(torch.optim.Adam, lr=1e-4), **recipe)  # type: ignore[arg-type]
    return STCNModule(small().train(), made, Settings(), CheckpointMetadata("stcn", {}), pretrained=False)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_reach_every_parameter_through_three_frames(checkpoint: bool) -> None:
    trained, batch = module(checkpoint=checkpoint), clip()
    logits = trained.unroll(batch)
    trained.loss(logits[:, -1], batch.labels[:, -1]).backward()
    for name, parameter in trained.segmenter.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_training_memorises_every_frame_and_reads_every_position() -> None:
    network = small(top_k=1).train()
    *_, state = video(network, 4)
    assert state.memory.banks[0].retained == 3
    query = network.encode(frame(5).image)
    assert not torch.allclose(network.read(query, state.memory), network.eval().read(query, state.memory))


def test_bootstrapped_loss_keeps_fewer_pixels_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, batch = module(), clip()
    logits = torch.randn(2, 3, 32, 48)
    losses = []
    for step in (0, 45_000, 90_000):
        monkeypatch.setattr(STCNModule, "global_step", step)
        losses.append(trained.loss(logits, batch.labels[:, 1]).item())
    assert losses[0] < losses[1] < losses[2]


def test_first_stage_weights_have_no_input_for_other_objects() -> None:
    weights = {f"module.{key}": value for key, value in published("stcn").items()}
    stem = weights["module.value_encoder.conv1.weight"]
    full = convert(weights)
    assert full is not None
    first = convert({**weights, "module.value_encoder.conv1.weight": stem[:, :4]})
    assert first is not None
    assert torch.equal(first["mask_encoder.conv1.weight"], stem[:, :3])
    assert torch.equal(first["mask_encoder.conv1_mask.weight"][:, :1], stem[:, 3:4])
    assert not first["mask_encoder.conv1_mask.weight"][:, 1].any()
    assert {key: value.shape for key, value in first.items()} == {key: value.shape for key, value in full.items()}


@pytest.mark.parametrize("other", ["stm", "mivos", "swiftnet", "crvos"])
def test_weights_of_other_methods_are_refused(other: str) -> None:
    lines = (HERE / "keys" / f"{other}.txt").read_text().splitlines()
    assert convert({line.split()[0]: torch.zeros(1) for line in lines}) is None


@pytest.mark.parametrize("wrong", [{"memory_every": 0}, {"memory_bound": 1}, {"top_k": 0}])
def test_empty_memory_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=": must be at least 1, 1, 1 and 2"):
        small(**wrong)
