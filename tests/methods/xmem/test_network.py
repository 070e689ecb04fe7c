from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from tests.golden.support import HERE, published
from tests.methods.videos import clip, frame, masks, video
from voslab.core import Masks
from voslab.core.checkpoint import CheckpointMetadata
from voslab.engine import Settings
from voslab.methods.xmem.module import XMemModule, dice_of_slots
from voslab.methods.xmem.network import XMem
from voslab.methods.xmem.state import XMemState
from voslab.methods.xmem.weights import convert
from voslab.training.recipe import Recipe

TINY = {"backbone": "resnet18", "norm": "group", "width": 8, "key_channels": 8, "value_channels": 16}
FEW = {"memory_every": 1, "max_frames": 4, "min_frames": 2, "prototypes": 3, "max_elements": 8, "top_k": 4}


def small(**parameters: object) -> XMem:
    torch.manual_seed(0)
    return XMem(**{**TINY, "decoder_width": 8, "sensory_channels": 8, **parameters}).eval()  # type: ignore[arg-type]


@torch.no_grad()
def test_a_frame_is_encoded_once() -> None:
    network, seen = small(memory_every=1), []
    network.encoder.register_forward_hook(lambda *_: seen.append(1))
    for _ in video(network, 5, objects=3, late=2):
        pass
    assert len(seen) == 5


@torch.no_grad()
def test_every_rth_frame_is_memorised_and_older_ones_become_prototypes() -> None:
    positions = 6
    plain = [state.memory.clips[0].sizes for state in video(small(memory_every=2, long_term=False), 7)]
    assert plain == [(n * positions, 0) for n in (1, 1, 2, 2, 3, 3)]
    long = [state.memory.clips[0].sizes for state in video(small(**FEW), 8)]
    assert [working // positions for working, _ in long] == [1, 2, 3, 2, 3, 2, 3]
    assert [prototypes for _, prototypes in long] == [0, 0, 0, 3, 3, 6, 6]


@torch.no_grad()
def test_training_makes_no_prototypes() -> None:
    *_, state = video(small(**FEW).train(), 8)
    assert state.memory.clips[0].sizes == (7 * 6, 0)


@torch.no_grad()
def test_a_new_state_holds_zero_sensory_memory_and_late_objects_begin_with_it() -> None:
    network = small(memory_every=2)
    assert not network.begin(frame(0), masks(2)).sensory.any()
    *_, state = video(network, 3, objects=1)
    assert state.sensory.any()
    added = network.add(frame(2), masks(1), state)
    assert torch.equal(added.sensory[:, :1], state.sensory)
    assert not added.sensory[:, 1].any()


@torch.no_grad()
def test_the_decoder_skips_its_update_on_memory_frames_unless_deep_updates_have_their_own_interval() -> None:
    updates = [state.updated is not None for state in video(small(memory_every=3), 7)]
    assert updates == [True, True, False, True, True, False]
    network = small(memory_every=2, deep_update_every=4)
    assert all(state.updated is not None for state in video(network, 6))
    assert [state.last_deep for state in video(network, 8)] == [0, 0, 0, 0, 4, 4, 4]


@torch.no_grad()
def test_a_corrected_frame_is_memorised_and_never_becomes_prototypes() -> None:
    network = small(**FEW)
    state = network.begin(frame(0), masks(2))
    kept = None
    for index in range(1, 12):
        _, state = network.step(frame(index), state)
        if index == 3:
            nothing = Masks(masks(0).probs, masks(0).slot_mask)
            assert state.encoded is not None
            kept = state.encoded.key.flatten(2).transpose(1, 2)[0].clone()
            state = network.add(frame(index), nothing, state, masks(2))
    [memory] = state.memory.clips
    assert memory.given == 2
    assert memory.working is not None
    assert kept is not None
    assert torch.equal(memory.working.keys[0, 0, 6:12], kept)


@torch.no_grad()
def test_only_so_many_corrected_frames_stay() -> None:
    network = small(**FEW, memory_given=3)
    state = network.begin(frame(0), masks(1))
    for index in range(1, 10):
        _, state = network.step(frame(index), state)
        state = network.add(frame(index), masks(0), state, masks(1))
        assert state.memory.clips[0].given <= 3
    assert state.memory.clips[0].given == 3


@torch.no_grad()
def test_corrections_and_late_objects_together_run_over_many_consolidations() -> None:
    network = small(**FEW)
    state = network.begin(frame(0), masks(1))
    for index in range(1, 16):
        logits, state = network.step(frame(index), state)
        if index in (3, 9):
            state = network.add(frame(index), masks(1), state)
        if index in (5, 11):
            known = state.masks.probs.shape[1]
            state = network.add(frame(index), masks(0), state, masks(known))
        assert torch.isfinite(logits).all()
    assert logits.shape[1] == 4
    assert [group.objects for group in state.memory.clips[0].groups] == [1, 1, 1]


@torch.no_grad()
def test_chunks_of_objects_change_nothing() -> None:
    outputs = []
    for chunk in (1, 3):
        *_, state = video(small(**FEW, object_chunk=chunk), 7, objects=3)
        outputs.append(state.masks.probs)
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_half_precision_is_close_to_full_precision() -> None:
    network, outputs = small(**FEW), []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            *_, state = video(network, 6, objects=2)
        outputs.append(state.masks.probs)
    assert torch.isfinite(outputs[1]).all()
    assert (outputs[0] - outputs[1]).abs().max() < 0.1


def test_no_state_holds_a_graph_where_gradients_are_off() -> None:
    network = small(**FEW)
    with torch.no_grad():
        *_, state = video(network, 6)
    assert not any(x.requires_grad for x in tensors(state))


def tensors(state: XMemState) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    state._map(lambda x: found.append(x) or x)  # type: ignore[func-returns-value]
    return found


def module(**network: Any) -> XMemModule:
    recipe = Recipe(partial(torch.optim.AdamW, lr=1e-4), checkpoint=network.pop("checkpoint", False))
    return XMemModule(small(**network).train(), recipe, Settings(), CheckpointMetadata("xmem", {}), pretrained=False)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_reach_every_parameter(checkpoint: bool) -> None:
    trained, batch = module(checkpoint=checkpoint, train_deep=1.0), clip(5)
    logits = trained.unroll(batch)
    trained.loss(logits[:, -1], batch.labels[:, -1]).backward()
    for name, parameter in trained.segmenter.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_training_reads_the_first_and_random_other_frames() -> None:
    network = small(train_refs=2).train()
    *_, state = video(network, 6)
    memory = state.memory
    assert memory.clips[0].frames == 5
    query = network.encode(frame(7).image)
    torch.manual_seed(0)
    reads = torch.stack([network.read(query, memory)[0] for _ in range(16)])
    different = torch.unique(reads.flatten(1).mul(1e4).round(), dim=0)
    assert 2 <= len(different) <= 4, "one of the four other frames at a time"


def test_a_slot_without_an_object_costs_nothing_when_it_is_predicted_empty() -> None:
    logits = torch.full((1, 3, 4, 4), -20.0)
    logits[:, 1] = 20
    labels = torch.ones(1, 4, 4, dtype=torch.int64)
    assert dice_of_slots(logits, labels) < 1e-4
    logits[:, 2] = 20
    assert dice_of_slots(logits, labels) > 0.3


def test_weights_without_sensory_memory_fit_a_network_without() -> None:
    weights = {key: x for key, x in published("xmem").items() if "hidden" not in key}
    for name in ("conv1", "downsample"):
        key = f"decoder.fuser.block1.{name}.weight"
        weights[key] = weights[key][:, :1536]
    ours = convert(weights)
    assert ours is not None
    with torch.device("meta"):
        network = XMem(sensory_channels=0)
    expected = {key: value.shape for key, value in network.state_dict().items()}
    assert {key: value.shape for key, value in ours.items()} == expected


@pytest.mark.parametrize("other", ["stm", "mivos", "stcn", "swiftnet", "crvos"])
def test_weights_of_other_methods_are_refused(other: str) -> None:
    lines = (HERE / "keys" / f"{other}.txt").read_text().splitlines()
    assert convert({line.split()[0]: torch.zeros(1) for line in lines}) is None


@pytest.mark.parametrize(
    "wrong",
    [{"memory_every": 0}, {"top_k": 0}, {"min_frames": 10}, {"max_elements": 128}, {"deep_update_every": 0}],
)
def test_contradicting_memories_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be at least|needs"):
        small(**wrong)
