from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.golden.support import HERE, published
from tests.methods.videos import clip, frame, masks, video
from voslab.core import CheckpointError, ConfigError, Masks
from voslab.core.archive import read_checkpoint
from voslab.core.checkpoint import CheckpointMetadata
from voslab.engine import Settings
from voslab.methods.builder import ModelSpec, build_network
from voslab.methods.checkpoint import load_light_encoder, load_weights
from voslab.methods.frtm.module import FRTMModule
from voslab.methods.frtm.network import FRTM
from voslab.methods.frtm.state import FRTMState
from voslab.methods.frtm.target import Samples, Target
from voslab.methods.frtm.weights import convert
from voslab.nn.resnet import ResNet
from voslab.training.recipe import Recipe

TINY = {"backbone": "resnet18", "norm": "group", "width": 8, "refine_width": 8}
FEW = {"channels": 4, "augmentations": 2, "fit_steps": (3, 3), "update_steps": (3,)}
MEMORY = {"memory_size": 4, "update_every": 2}
TRAINING = {"train_channels": 4, "train_augmentations": 2}


def small(**parameters: object) -> FRTM:
    torch.manual_seed(0)
    return FRTM(**{**TINY, **FEW, **MEMORY, **TRAINING, **parameters}).eval()  # type: ignore[arg-type]


def model(state: FRTMState, slot: int = 0) -> Target:
    target = state.targets[0][slot]
    assert target is not None
    return target


def memory(state: FRTMState, slot: int = 0) -> Samples:
    samples = model(state, slot).samples
    assert samples is not None
    return samples


def visible(state: FRTMState) -> FRTMState:
    """The state with masks that are large enough to be memorised."""
    state.masks.probs[:, :, :8, :8] = 1
    return state


def tensors(state: FRTMState) -> list[Tensor]:
    found: list[Tensor] = []
    state._map(lambda x: found.append(x) or x)  # type: ignore[func-returns-value]
    return found


@torch.no_grad()
def test_a_frame_is_encoded_once_and_each_sample_of_a_first_frame_too() -> None:
    network, seen = small(), []
    network.encoder.register_forward_hook(lambda *_: seen.append(1))
    for _ in video(network, 5, objects=3):
        pass
    assert len(seen) == 4 + 3 * 2


@torch.no_grad()
def test_the_memory_has_a_constant_size_and_its_weights_follow_the_newest_frames() -> None:
    network, sizes = small(memory_size=5), []
    state = network.begin(frame(0), masks(1))
    assert memory(state).weights.tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0, 0])
    newest: list[int | None] = []
    for index in range(1, 9):
        _, state = network.step(frame(index), state)
        sizes.append(visible(state).nbytes())
        weights = memory(state).weights
        assert float(weights.sum()) == pytest.approx(1)
        if index > 2:
            assert float(weights[memory(state).newest] * 0.9 / weights[newest[-1]]) == pytest.approx(1)
        newest.append(memory(state).newest)
    assert len(set(sizes)) == 1
    assert newest == [None, 2, 3, 4, 2, 3, 4, 2]


@torch.no_grad()
def test_filters_change_on_every_nth_frame_and_projections_never() -> None:
    network = small(update_every=3)
    state = network.begin(frame(0), masks(1))
    filters, project = [model(state).filter], model(state).project
    for index in range(1, 8):
        _, state = network.step(frame(index), state)
        state = visible(state)
        filters.append(model(state).filter)
        assert torch.equal(model(state).project, project)
    # A frame is memorised at the step after it.
    changed = [index for index in range(1, 8) if not torch.equal(filters[index], filters[index - 1])]
    assert changed == [4, 7]


@torch.no_grad()
@pytest.mark.parametrize("given", [False, True])
def test_frames_without_the_object_are_not_memorised_unless_the_mask_was_given(given: bool) -> None:
    network = small()
    state = network.begin(frame(0), masks(1))
    _, state = network.step(frame(1), state)
    state = replace(state, given=[[given]])
    state.masks.probs.zero_()
    after = network.memorise(state)
    assert (memory(after).newest is not None) == given
    assert model(after).frames == 1


@torch.no_grad()
def test_late_objects_are_fitted_to_their_own_frame_and_change_no_other() -> None:
    network, fitted = small(), []
    state = network.begin(frame(0), masks(1))
    _, state = network.step(frame(1), state)
    before, fit = model(state), network.fit_object

    def counted(*args: Any) -> Target:
        fitted.append(args)
        return fit(*args)

    network.fit_object = counted  # type: ignore[method-assign]
    added = network.add(frame(1), masks(1), state)
    assert len(fitted) == 1
    assert torch.equal(fitted[0][0], frame(1).image[0])
    assert added.targets[0][0] is before
    assert torch.equal(model(added, 1).project, network.fit_object(frame(1).image[0], masks(1).probs[0, 0]).project)
    _, after = network.step(frame(2), added)
    assert memory(after, 1).newest is None, "its first frame is in the memory already"


@torch.no_grad()
def test_a_mask_that_confirms_the_prediction_changes_nothing_and_a_correction_updates_at_once() -> None:
    network, none = small(update_every=100), masks(0)
    state = network.begin(frame(0), masks(1))
    _, state = network.step(frame(1), state)
    filter_before = model(state).filter
    confirmed = network.memorise(network.add(frame(1), none, state.clone(), state.masks))
    assert torch.equal(model(confirmed).filter, filter_before)
    corrected = network.memorise(network.add(frame(1), none, state.clone(), masks(1)))
    assert not torch.equal(model(corrected).filter, filter_before)


@torch.no_grad()
def test_chunks_of_objects_change_nothing() -> None:
    outputs = []
    for chunk in (1, 3):
        *_, state = video(small(object_chunk=chunk), 4, objects=3)
        outputs.append(state.probs)
    torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_seeds_decide_target_models_and_global_random_states_do_not() -> None:
    def project(seed: int) -> Tensor:
        torch.manual_seed(torch.seed() % 2**31)
        return model(network.begin(frame(0), masks(1))).project

    network = small()
    first = project(0)
    assert torch.equal(first, project(0))
    network.seed = 1
    assert not torch.equal(first, project(0))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_fits_leave_no_gradients_behind(mode: Any) -> None:
    network = small()
    with mode():
        *_, state = video(network, 4, objects=2)
    assert not any(x.requires_grad for x in tensors(state))
    assert all(parameter.grad is None for parameter in network.parameters())


@torch.no_grad()
def test_target_models_are_float32_in_half_precision() -> None:
    network, outputs = small(), []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            *_, state = video(network, 3, objects=2)
        assert {x.dtype for x in (model(state).filter, memory(state).features, state.f16)} == {torch.float32}
        outputs.append(model(state).scores(state.f16))
    assert (outputs[0] - outputs[1]).abs().max() < 0.2


@torch.no_grad()
def test_one_object_is_shown_where_its_probability_is_above_one_half() -> None:
    network = small()
    logits, state = network.step(frame(1), network.begin(frame(0), masks(1)))
    assert torch.equal(logits.argmax(1), (state.probs > 0.5)[:, 0].long())


def module() -> FRTMModule:
    recipe = Recipe(partial(torch.optim.Adam, lr=1e-3))
    return FRTMModule(small().train(), recipe, Settings(), CheckpointMetadata("frtm", {}), pretrained=False)


def test_the_loss_is_the_cross_entropy_of_the_refiner_whose_parameters_all_get_gradients() -> None:
    trained, batch = module(), clip()
    batch = replace(batch, labels=batch.labels.clamp(max=1), slot_mask=batch.slot_mask[:, :1])
    assert not trained.segmenter.encoder.training
    seen = []
    trained.segmenter.refiner.register_forward_hook(lambda *args: seen.append(args[2]))
    logits = trained.unroll(batch)
    losses = [trained.loss(logits[:, index], batch.labels[:, index + 1]) for index in range(2)]
    for index, loss in enumerate(losses):
        truth = (batch.labels[:, index + 1] == 1).float()
        expected = F.binary_cross_entropy_with_logits(seen[index], truth)
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.stack(losses).sum().backward()
    for name, parameter in trained.segmenter.named_parameters():
        got = parameter.grad is not None and bool(parameter.grad.any())
        assert got == name.startswith("refiner."), name


def test_training_fits_with_its_own_settings_and_keeps_no_memory() -> None:
    network = small(train_channels=3).train()
    target = network.fit_object(frame(0).image[0], masks(1).probs[0, 0])
    assert (target.project.shape[0], target.samples) == (3, None)


@pytest.mark.parametrize(("backbone", "keys"), [("resnet18", "rn18"), ("resnet101", "rn101")])
def test_published_weights_are_the_refiner_and_leave_the_encoder_as_it_is(
    backbone: str, keys: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = FRTM(backbone)
    before = network.encoder.conv1.weight.clone()
    weights = published("frtm", "refiner")
    if keys == "rn101":
        for level in (2, 3, 4, 5):
            key = f"refiner.TSE.layer{level}.reduce.0.weight"
            weights[key] = torch.randn(64, 4 * weights[key].shape[1], 1, 1)
    assert len(weights) == 140
    stored = {"name": keys, "epoch": 260, "stats": {}, "model": weights, "optimizer": {}, "scheduler": {}}
    torch.save(stored, tmp_path / "published.pth")
    load_weights(network, "frtm", read_checkpoint(tmp_path / "published.pth"))
    assert torch.equal(network.encoder.conv1.weight, before)
    assert torch.equal(network.refiner.conv2.weight, weights["refiner.project.conv2.weight"])
    with pytest.raises(CheckpointError, match="published weights of 'frtm', not of 'stcn'"):
        load_weights(network, "stcn", read_checkpoint(tmp_path / "published.pth"))
    other = FRTM("resnet101" if backbone == "resnet18" else "resnet18")
    with pytest.raises(CheckpointError, match=r"published\.pth: 'refiner.levels.0.encoder.reduce.0.weight' is"):
        load_weights(other, "frtm", read_checkpoint(tmp_path / "published.pth"))


def test_the_encoder_takes_classification_weights(tmp_path: Path) -> None:
    donor, network = ResNet("resnet18", width=8), small(norm="batch")
    torch.save({**donor.state_dict(), "fc.weight": torch.zeros(2, 2)}, tmp_path / "imagenet.pth")
    load_light_encoder(network, "frtm", str(tmp_path / "imagenet.pth"))
    assert torch.equal(network.encoder.layer4[1].conv2.weight, donor.layer4[1].conv2.weight)  # type: ignore[union-attr,index]


def test_published_weights_need_those_of_the_encoder_alone_and_under_covos(tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor, weights = ResNet("resnet18"), tmp_path / "rn18.pth"
    torch.save(donor.state_dict(), tmp_path / "imagenet.pth")
    torch.save({"model": published("frtm", "refiner")}, weights)
    network = {"backbone": "resnet18"}
    wrapper = {"base": {"name": "frtm", "network": network}, "refine": False, "correction": False}
    alone = ModelSpec(model="frtm", network=network, weights=weights)
    under = ModelSpec(model="covos", network=wrapper, base_weights=weights)
    for spec, option in ((alone, "encoder_weights"), (under, "base_encoder_weights")):
        with pytest.raises(ConfigError, match=r"rn18\.pth: holds no encoder: say model\.(base\.)?encoder_weights=FILE"):
            build_network(spec)
        built = build_network(replace(spec, **{option: str(tmp_path / "imagenet.pth")})).segmenter
        found = built if built.base is None else built.base
        assert torch.equal(found.encoder.layer4[0].conv1.weight, donor.layer4[0].conv1.weight)  # type: ignore[union-attr,index]


@pytest.mark.parametrize("other", ["stm", "mivos", "stcn", "swiftnet", "crvos", "xmem"])
def test_weights_of_other_methods_are_refused(other: str) -> None:
    lines = (HERE / "keys" / f"{other}.txt").read_text().splitlines()
    assert convert({line.split()[0]: torch.zeros(1) for line in lines}) is None


@pytest.mark.parametrize("wrong", [{"fit_steps": ()}, {"update_steps": (0,)}, {"rate": 1.0}, {"share": 0.0}])
def test_contradicting_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        small(**wrong)


def test_slots_without_a_mask_have_no_target_model_until_one_is_given() -> None:
    network = small()
    with torch.no_grad():
        given = Masks(masks(2).probs * torch.tensor([1.0, 0]).view(1, 2, 1, 1), torch.tensor([[True, False]]))
        logits, state = network.step(frame(1), network.begin(frame(0), given))
        assert state.targets[0][1] is None
        assert (logits[:, 2] < -1e3).all()
        state = network.add(frame(1), masks(0), state, masks(2))
        assert state.targets[0][1] is not None
        logits, _ = network.step(frame(2), state)
    assert (logits[:, 2] > -1e3).all()
