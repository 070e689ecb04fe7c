from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.golden.support import HERE
from tests.methods.videos import clip, frame, masks, video
from voslab.core import Frame, Masks
from voslab.core.checkpoint import CheckpointMetadata
from voslab.engine import Settings
from voslab.methods.swiftnet.module import SwiftNetModule
from voslab.methods.swiftnet.network import SwiftNet
from voslab.methods.swiftnet.weights import convert
from voslab.training.recipe import Recipe


def small(**parameters: object) -> SwiftNet:
    torch.manual_seed(0)
    tiny = {"norm": "group", "width": 8, "decoder_width": 8}
    return SwiftNet(**{**tiny, **parameters}).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@torch.no_grad()
def test_a_frame_is_encoded_once(backbone: str) -> None:
    network, seen = small(backbone=backbone, memory_every=1), []
    network.encoder.layer1.register_forward_hook(lambda *_: seen.append(1))
    for _ in video(network, 5, objects=3, late=2):
        pass
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("parameters", "columns"),
    [
        ({"memory_every": 1}, [6, 12, 13, 14, 15, 16]),
        ({"memory_every": 2}, [6, 12, 12, 13, 13, 14]),
        ({"memory_every": 2, "memory_previous": False}, [6, 6, 7, 7, 8, 8]),
        ({"memory_every": 1, "memory_share": 0.5, "memory_bound": 2}, [6, 12, 15, 18, 18, 18]),
        ({}, [6, 12, 12, 12, 12, 12]),
    ],
)
@torch.no_grad()
def test_the_memory_follows_its_policy(parameters: dict[str, object], columns: list[int]) -> None:
    assert [state.memory.num_readable for state in video(small(**parameters), 7)] == [[count] for count in columns]


@torch.no_grad()
def test_late_object_starts_at_its_frame() -> None:
    columns = [state.memory.num_readable for state in video(small(memory_every=1), 6, late=2)]
    assert columns == [[6], [12, 0], [13, 6], [14, 12], [15, 13]]


@torch.no_grad()
def test_objects_after_an_empty_first_frame_are_memorised() -> None:
    network = small(trigger="variation")
    state = network.begin(frame(0), masks(0))
    for index in (1, 2):
        _, state = network.step(frame(index), state)
    logits, state = network.step(frame(3), network.add(frame(2), masks(2), state))
    assert state.memory.num_readable == [6]
    assert logits.shape == (1, 3, 32, 48)


def updates(network: SwiftNet, images: list[torch.Tensor]) -> list[list[bool]]:
    """By frame, for which clips an update is due."""
    batch = images[0].shape[0]
    state = network.begin(Frame(0, images[0]), masks(1, batch))
    due = []
    for index, image in enumerate(images[1:], 1):
        _, state = network.step(Frame(index, image), state)
        due.append(state.due)
    return due


@torch.no_grad()
def test_variation_triggers_on_changes_per_clip() -> None:
    network = small(trigger="variation", variation_threshold=0.5, image_threshold=0.1, mask_threshold=2.0)
    first = torch.zeros(2, 3, 32, 48)
    images = [first]
    for index in range(1, 5):
        image = first.clone()
        # A quarter of the second clip's pixels blinks, in one channel: due after two changes.
        image[1, 0, :, :12] = 0.2 * (index % 2)
        images.append(image)
    assert updates(network, images) == [[False, False], [False, True], [False, False], [False, True]]


@torch.no_grad()
def test_variation_ignores_small_pixel_changes_and_counts_masks() -> None:
    images = [torch.full((1, 3, 32, 48), 0.05 * index) for index in range(4)]
    settings = {"trigger": "variation", "variation_threshold": 0.3, "image_threshold": 0.1}
    assert updates(small(**settings, mask_threshold=2.0), images) == [[False]] * 3
    # The untrained network forgets the given mask, a quarter of the frame and more.
    assert [True] in updates(small(**settings, mask_threshold=0.01), images)


@torch.no_grad()
def test_a_batch_with_different_updates_equals_its_clips() -> None:
    network = small(trigger="variation", variation_threshold=0.5, mask_threshold=2.0)
    images = [frame(index, 2).image for index in range(6)]
    for index in range(1, 6, 2):
        images[index][1] = images[index - 1][1]
    states = [network.begin(Frame(0, images[0]), masks(2, 2))]
    states += [network.begin(Frame(0, images[0][b : b + 1]), masks(2)) for b in range(2)]
    seen = []
    for index in range(1, 6):
        clips = [images[index], images[index][:1], images[index][1:]]
        results = [network.step(Frame(index, clip), state) for clip, state in zip(clips, states, strict=True)]
        (both, a, b), states = [logits for logits, _ in results], [state for _, state in results]
        assert torch.allclose(both, torch.cat([a, b]), atol=1e-4)
        seen.append(states[0].due)
    assert [True, False] in seen
    assert states[1].memory.num_readable > states[2].memory.num_readable


@torch.no_grad()
def test_objects_are_decoded_independently() -> None:
    network = small(object_chunk=2)
    *_, state = video(network, 3, objects=3)
    query = network.encode(frame(2).image)
    readout = network.read(query, state.memory)
    together = network.decode(query, readout)
    for i in range(3):
        assert torch.allclose(network.decode(query, readout[:, i : i + 1])[:, 0], together[:, i], atol=1e-5)


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
    assert (outputs[0].softmax(1) - outputs[1].softmax(1)).abs().max() < 0.1


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_reach_every_parameter_through_four_frames(backbone: str, checkpoint: bool) -> None:
    recipe = Recipe(partial(torch.optim.Adam, lr=1e-4), checkpoint=checkpoint)
    network = small(backbone=backbone, memory_every=1).train()
    trained = SwiftNetModule(network, recipe, Settings(), CheckpointMetadata("swiftnet", {}), pretrained=False)
    batch = clip(4)
    logits = trained.unroll(batch)
    trained.loss(logits[:, -1], batch.labels[:, -1]).backward()
    for name, parameter in trained.segmenter.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("other", ["stm", "stcn", "mivos", "crvos"])
def test_weights_of_other_methods_are_refused(other: str) -> None:
    lines = (HERE / "keys" / f"{other}.txt").read_text().splitlines()
    assert convert({line.split()[0]: torch.zeros(1) for line in lines}) is None


@pytest.mark.parametrize(
    "wrong",
    [{"memory_every": 0}, {"memory_bound": 1}, {"memory_share": 0.0}, {"memory_share": 1.5}, {"trigger": "never"}],
)
def test_memory_without_capacity_or_trigger_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        small(**wrong)


@torch.no_grad()
def test_keys_ignore_masks_and_values_depend_on_them() -> None:
    network, first = small(width=16, centred=True), frame(0)

    def remembered(columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.zeros(first.image.shape[0], *first.image.shape[-2:], dtype=torch.long)
        labels[..., :columns] = 1
        given = Masks.from_labels(labels, torch.ones(len(labels), 1, dtype=torch.bool))
        bank = network.memorise(network.begin(first, given)).banks[0]
        assert bank.keys is not None
        assert bank.values is not None
        return bank.keys, bank.values

    (keys, values), (same, other) = remembered(0), remembered(24)
    assert (values - other).square().mean().sqrt() > 0.1 * values.std(2).mean()
    assert (keys - same).square().mean().sqrt() < 0.1 * keys.std(2).mean()
