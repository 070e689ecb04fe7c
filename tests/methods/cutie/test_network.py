from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch

from tests.golden.support import HERE
from tests.methods.videos import clip, frame, masks, video
from voslab.core import VOID, Clip, Masks
from voslab.core.checkpoint import CheckpointMetadata
from voslab.engine import Settings
from voslab.methods.cutie.module import CutieModule
from voslab.methods.cutie.network import Cutie
from voslab.methods.cutie.weights import convert
from voslab.training.recipe import Recipe

TINY = {"backbone": "resnet18", "norm": "group", "width": 8, "key_channels": 8, "value_channels": 16}
HEADS = {"sensory_channels": 8, "decoder_width": 8, "queries": 4, "heads": 2, "feedforward": 16, "train_points": 32}
LONG = {"long_term": True, "max_frames": 4, "min_frames": 2, "prototypes": 3, "max_elements": 12, "spare_elements": 2}
FEW = {"memory_every": 1, "top_k": 4}


def small(**parameters: object) -> Cutie:
    torch.manual_seed(0)
    return Cutie(**{**TINY, **HEADS, **parameters}).eval()  # type: ignore[arg-type]


@torch.no_grad()
def test_a_frame_is_encoded_once() -> None:
    network, seen = small(memory_every=1), []
    network.encoder.register_forward_hook(lambda *_: seen.append(1))
    for _ in video(network, 5, objects=3, late=2):
        pass
    assert len(seen) == 5


@torch.no_grad()
def test_the_first_and_the_newest_frames_stay_or_older_ones_become_prototypes() -> None:
    positions = 6
    sizes = [state.memory.buckets[0].clips[0].sizes for state in video(small(**FEW, memory_bound=3), 7)]
    assert sizes == [(n * positions, 0) for n in (1, 2, 3, 3, 3, 3)]
    sizes = [state.memory.buckets[0].clips[0].sizes for state in video(small(**FEW, memory_bound=None), 7)]
    assert sizes == [(n * positions, 0) for n in (1, 2, 3, 4, 5, 6)]
    long = [state.memory.buckets[0].clips[0].sizes for state in video(small(**FEW, **LONG), 12)]
    assert [working // positions for working, _ in long] == [1, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3]
    # Nine prototypes leave no space for three more: of twelve, three and two to spare go.
    assert [prototypes for _, prototypes in long] == [0, 0, 0, 3, 3, 6, 6, 9, 9, 10, 10]


@torch.no_grad()
@pytest.mark.parametrize(
    ("updates", "changed"),
    [(5, [True] * 8), (2, [True, False, False, True, True, False, False, True]), (1, [True, False, False, False] * 2)],
)
def test_the_decoder_updates_the_sensory_memory_on_evenly_spaced_frames(updates: int, changed: list[bool]) -> None:
    network, seen = small(memory_every=4, sensory_updates=updates), []
    decode = network.decode

    def noted(*arguments: Any) -> Any:
        seen.append(arguments[3])
        return decode(*arguments)

    network.decode = noted  # type: ignore[method-assign]
    for _ in video(network, 9):
        pass
    assert seen == changed


@torch.no_grad()
def test_late_objects_have_memories_of_their_own_from_zero_on() -> None:
    network = small(memory_every=2)
    *_, state = video(network, 3, objects=2)
    added = network.add(frame(2), masks(1), state)
    assert torch.equal(added.sensory[:, :2], state.sensory)
    assert not added.sensory[:, 2].any()
    assert not added.objects[:, 2].any()
    _, after = network.step(frame(3), added)
    assert after.memory.counts == [2, 1]
    assert [bucket.clips[0].sizes[0] for bucket in after.memory.buckets] == [12, 6]


@torch.no_grad()
def test_object_memory_sums_all_memory_frames() -> None:
    network = small(memory_every=2)
    areas = [state.objects[0, 0, :, -1].sum() for state in video(network, 8)]
    grows = [bool(after > before) for before, after in pairwise(areas)]
    assert grows == [False, True, False, True, False, True]


@torch.no_grad()
@pytest.mark.parametrize("policy", [{"memory_bound": 2}, LONG], ids=["bound", "long_term"])
def test_a_corrected_frame_stays(policy: dict[str, Any]) -> None:
    network, kept = small(**FEW, **policy), None
    state = network.begin(frame(0), masks(2))
    for index in range(1, 12):
        _, state = network.step(frame(index), state)
        if index == 3:
            assert state.encoded is not None
            kept = state.encoded.key.flatten(2).transpose(1, 2)[0].clone()
            state = network.add(frame(index), masks(0), state, masks(2))
    [memory] = state.memory.buckets[0].clips
    assert memory.given == 2
    assert memory.working is not None
    assert kept is not None
    assert torch.equal(memory.working.keys[0, 0, 6:12], kept)


@torch.no_grad()
@pytest.mark.parametrize("policy", [{"memory_bound": 2}, LONG], ids=["bound", "long_term"])
def test_corrections_and_late_objects_together_run_over_a_long_video(policy: dict[str, Any]) -> None:
    network = small(**FEW, **policy, memory_given=3)
    state = network.begin(frame(0), masks(1))
    for index in range(1, 16):
        logits, state = network.step(frame(index), state)
        if index in (3, 9):
            state = network.add(frame(index), masks(1), state)
        if index in (5, 11, 12, 13):
            state = network.add(frame(index), masks(0), state, masks(state.masks.probs.shape[1]))
        assert torch.isfinite(logits).all()
    assert logits.shape[1] == 4
    assert state.memory.counts == [1, 1, 1]
    assert [bucket.clips[0].given for bucket in state.memory.buckets] == [3, 3, 3]


@torch.no_grad()
def test_chunks_of_objects_change_nothing() -> None:
    outputs = []
    for chunk in (1, 3):
        *_, state = video(small(**FEW, object_chunk=chunk), 6, objects=3)
        outputs.append(state.masks.probs)
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_half_precision_is_close_to_full_precision() -> None:
    network, outputs = small(**FEW), []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            *_, state = video(network, 5, objects=2)
        outputs.append(state.masks.probs)
    assert torch.isfinite(outputs[1]).all()
    assert (outputs[0] - outputs[1]).abs().max() < 0.1


@torch.no_grad()
def test_flipped_videos_give_flipped_masks_with_flip() -> None:
    network = small(**FEW, flip=True)
    straight = network.begin(frame(0), masks(2))
    mirrored = network.begin(_mirrored(frame(0)), Masks(masks(2).probs.flip(-1), masks(2).slot_mask))
    for index in range(1, 4):
        logits, straight = network.step(frame(index), straight)
        flipped, mirrored = network.step(_mirrored(frame(index)), mirrored)
        torch.testing.assert_close(flipped.flip(-1), logits, rtol=1e-4, atol=1e-4)
    assert logits.shape == (1, 3, 32, 48)
    assert straight.masks.probs.shape[0] == 2


def _mirrored(one: Any) -> Any:
    return type(one)(one.index, one.image.flip(-1))


def test_no_state_holds_a_graph_where_gradients_are_off() -> None:
    with torch.no_grad():
        *_, state = video(small(**FEW), 4)
    found: list[torch.Tensor] = []
    state._map(lambda x: found.append(x) or x)
    assert found
    assert not any(x.requires_grad for x in found)
    assert state.auxiliary is None


def module(**network: Any) -> CutieModule:
    recipe = Recipe(partial(torch.optim.AdamW, lr=1e-4), checkpoint=network.pop("checkpoint", False))
    return CutieModule(small(**network).train(), recipe, Settings(), CheckpointMetadata("cutie", {}), pretrained=False)


def total(trained: CutieModule, batch: Clip) -> torch.Tensor:
    steps = zip(trained.steps(batch), batch.labels[:, 1:].unbind(1), strict=True)
    return torch.stack([trained.frame_loss(*output, labels, batch) for output, labels in steps]).mean()


@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_reach_every_parameter(checkpoint: bool) -> None:
    trained, batch = module(checkpoint=checkpoint, train_deep=1.0), clip(4)
    total(trained, batch).backward()
    for name, parameter in trained.segmenter.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_auxiliary_losses_count_a_hundredth_each() -> None:
    trained, batch = module(), clip(2)
    [(logits, state)] = trained.steps(batch)
    torch.manual_seed(1)
    main = trained.loss(logits, batch.labels[:, 1])
    torch.manual_seed(1)
    difference = trained.frame_loss(logits, state, batch.labels[:, 1], batch) - main
    assert state.auxiliary is not None
    assert state.auxiliary.shape == (2, 2, 5, 2, 3)
    assert 0 < difference < 5 * 0.01 * 20


def test_unused_slots_and_void_pixels_cost_nothing() -> None:
    trained = module()
    logits = torch.full((1, 4, 32, 48), -20.0)
    logits[:, 3] = 20
    labels = torch.full((1, 32, 48), 3)
    used = torch.tensor([[False, False, True]])
    logits[:, 1:3] = -1e4
    # Near the border the masks fade out, so that even this costs something.
    assert trained._sampled_loss(logits, labels, used) < 0.05
    logits[..., 24:] *= -1
    wrong = trained._sampled_loss(logits, labels, used)
    assert wrong > 1
    labels[..., 23:] = VOID
    assert trained._sampled_loss(logits, labels, used) < wrong / 5


def test_labels_of_a_frame_that_is_padded_line_up_with_the_auxiliary_masks() -> None:
    trained, batch = module(), clip(2)
    cut = Clip(batch.images[..., :24, :40], batch.labels[..., :24, :40], batch.slot_mask, batch.names)
    assert torch.isfinite(total(trained, cut))


def test_training_reads_random_frames_and_drops_none() -> None:
    network = small(train_refs=2, memory_bound=2).train()
    *_, state = video(network, 6)
    [memory] = state.memory.buckets
    assert memory.clips[0].frames == 5
    query = network.encode(frame(7).image)
    torch.manual_seed(0)
    reads = torch.stack([network.read(query, state.memory)[0] for _ in range(24)])
    different = torch.unique(reads.flatten(1).mul(1e4).round(), dim=0)
    assert 5 <= len(different) <= 10, "two of five frames at a time, the first one not always"


@pytest.mark.parametrize(("keys", "backbone"), [("cutie", "resnet18"), ("cutie_base", "resnet50")])
def test_published_keys_fit_the_small_and_the_base_network(keys: str, backbone: str) -> None:
    rows = [line.split() for line in (HERE / "keys" / f"{keys}.txt").read_text().splitlines()]
    with torch.device("meta"):
        shapes = {key: [] if shape == "scalar" else list(map(int, shape.split("x"))) for key, shape, _ in rows}
        ours = convert({key: torch.empty(shape) for key, shape in shapes.items()})
        network = Cutie(backbone=backbone)
    assert ours is not None
    expected = {key: value.shape for key, value in network.state_dict().items()}
    assert {key: value.shape for key, value in ours.items()} == expected


def test_weights_of_the_first_stage_get_a_channel_for_other_objects() -> None:
    rows = [line.split() for line in (HERE / "keys" / "cutie.txt").read_text().splitlines()]
    shapes = {key: [] if shape == "scalar" else list(map(int, shape.split("x"))) for key, shape, _ in rows}
    shapes["mask_encoder.conv1.weight"][1], shapes["pixel_fuser.sensory_compress.weight"][1] = 4, 257
    ours = convert({key: torch.ones(shape) for key, shape in shapes.items()})
    assert ours is not None
    assert ours["pixel_fuser.compress.weight"].shape == (256, 258, 1, 1)
    assert not ours["pixel_fuser.compress.weight"][:, -1].any()
    assert not ours["mask_encoder.conv1_mask.weight"][:, 1].any()


@pytest.mark.parametrize("other", ["stm", "mivos", "stcn", "swiftnet", "crvos", "xmem"])
def test_weights_of_other_methods_are_refused(other: str) -> None:
    lines = (HERE / "keys" / f"{other}.txt").read_text().splitlines()
    assert convert({line.split()[0]: torch.zeros(1) for line in lines}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory_every": 0},
        {"top_k": 0},
        {"memory_bound": 1},
        {"min_frames": 10},
        {"spare_elements": 10_000},
        {"queries": 3},
        {"heads": 3},
    ],
)
def test_contradicting_numbers_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must be at least|needs"):
        small(**wrong)
