from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.golden.support import HERE, published
from tests.methods.videos import clip, frame, frames_read, masks, video
from voslab.core.checkpoint import CheckpointMetadata
from voslab.engine import Settings
from voslab.methods.mivos.module import MiVOSModule
from voslab.methods.mivos.network import MiVOS
from voslab.methods.mivos.weights import convert
from voslab.nn.losses import nll
from voslab.training.recipe import Recipe


def small(**parameters: object) -> MiVOS:
    torch.manual_seed(0)
    tiny = {"backbone": "resnet18", "norm": "group", "width": 8, "key_channels": 8, "value_channels": 16}
    return MiVOS(**{**tiny, "decoder_width": 8, **parameters}).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parameters", "kept", "filled"),
    [
        ({"memory_every": 2}, [1, 1, 2, 2, 3, 3], [1, 2, 2, 3, 3, 4]),
        ({"memory_every": 2, "memory_previous": False}, [1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3]),
        ({"memory_every": 1, "memory_bound": 3}, [1, 2, 3, 3, 3, 3], [1, 2, 3, 3, 3, 3]),
        ({}, [1, 1, 1, 1, 1, 2], [1, 2, 2, 2, 2, 2]),
    ],
)
@torch.no_grad()
def test_the_memory_follows_its_policy(parameters: dict[str, object], kept: list[int], filled: list[int]) -> None:
    banks = [state.memory.banks[0] for state in video(small(**parameters), 7)]
    assert [bank.retained for bank in banks] == kept
    assert [frames_read(bank) for bank in banks] == filled


@torch.no_grad()
def test_frame_with_given_masks_is_permanent_and_restarts_the_interval() -> None:
    states = list(video(small(memory_every=3), 8, late=2))
    frames = [[bank.retained for bank in state.memory.banks] for state in states]
    # Frames 0, 2 (with the new object), 5.
    assert frames == [[1], [1, 0], [2, 1], [2, 1], [2, 1], [3, 2], [3, 2]]


@torch.no_grad()
def test_objects_are_read_and_decoded_independently() -> None:
    network = small(object_chunk=2, top_k=4, kernel=1.0)
    *_, state = video(network, 3, objects=3)
    query = network.encode(frame(2).image)
    together = network.decode(query, network.read(query, state.memory))
    [bank] = state.memory.banks
    assert bank.keys is not None
    assert bank.values is not None
    for i in range(3):
        one = replace(bank, objects=1, keys=bank.keys[:, i : i + 1], values=bank.values[:, i : i + 1])
        own = replace(state.memory, banks=[one])
        assert torch.allclose(network.decode(query, network.read(query, own))[:, 0], together[:, i], atol=1e-5)


def test_kernel_and_top_k_restrict_the_read_in_evaluation_only() -> None:
    network = small(kernel=0.5, top_k=3)
    *_, state = video(network, 2)
    query = network.encode(frame(2).image)
    both = network.read(query, state.memory)
    network.kernel = None
    top = network.read(query, state.memory)
    network.top_k = None
    full = network.read(query, state.memory)
    assert not torch.allclose(both, top, atol=1e-4)
    assert not torch.allclose(top, full, atol=1e-4)
    network.kernel, network.top_k = 0.5, 3
    assert torch.equal(network.train().read(query, state.memory), full)


@torch.no_grad()
def test_half_precision_is_close_to_full_precision() -> None:
    network = small(memory_every=1, kernel=2.0, top_k=5)
    outputs = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            state = network.begin(frame(0), masks(2))
            for index in (1, 2, 3):
                logits, state = network.step(frame(index), state)
        outputs.append(logits)
    assert torch.isfinite(outputs[1]).all()
    assert (outputs[0].softmax(1) - outputs[1].softmax(1)).abs().max() < 0.05


def test_gradients_reach_every_parameter_through_three_frames() -> None:
    recipe = Recipe(partial(torch.optim.Adam, lr=1e-4))
    trained = MiVOSModule(small().train(), recipe, Settings(), CheckpointMetadata("mivos", {}), pretrained=False)
    batch = clip()
    logits = trained.unroll(batch)
    loss = trained.loss(logits[:, -1], batch.labels[:, -1])
    assert loss.item() == pytest.approx(nll(logits[:, -1], batch.labels[:, -1]).item()), "all pixels count at first"
    loss.backward()
    for name, parameter in trained.segmenter.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_first_stage_weights_have_no_input_for_other_objects() -> None:
    weights = {f"module.{key}": value for key, value in published("mivos").items()}
    stem = weights["module.mask_rgb_encoder.conv1.weight"]
    first = convert({**weights, "module.mask_rgb_encoder.conv1.weight": stem[:, :4]})
    assert first is not None
    assert torch.equal(first["mask_encoder.conv1_mask.weight"][:, :1], stem[:, 3:4])
    assert not first["mask_encoder.conv1_mask.weight"][:, 1].any()


@pytest.mark.parametrize("other", ["stm", "stcn", "swiftnet", "crvos"])
def test_weights_of_other_methods_are_refused(other: str) -> None:
    lines = (HERE / "keys" / f"{other}.txt").read_text().splitlines()
    assert convert({line.split()[0]: torch.zeros(1) for line in lines}) is None


@pytest.mark.parametrize("wrong", [{"memory_every": 0}, {"memory_bound": 1}, {"top_k": 0}, {"kernel": 0.0}])
def test_empty_memory_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        small(**wrong)
