from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tests.methods.covos.world import (
    BASE,
    HEIGHT,
    ORDER,
    WIDTH,
    F,
    SeenState,
    covos,
    frame,
    given,
    noisy,
    small,
    square,
    stcn,
    video,
)
from voslab.core import CodecData, Frame, Masks
from voslab.methods import registry


@torch.no_grad()
def test_base_processes_only_key_frames() -> None:
    _, state = video(covos(refine=False))
    assert isinstance(state.base, SeenState)
    assert state.base.seen == [0, 4]


@pytest.mark.parametrize("name", ["stcn", "crvos", "copy_first"])
@torch.no_grad()
def test_without_codec_data_the_result_equals_the_base(name: str) -> None:
    torch.manual_seed(0)
    base: Any = registry.build(name, {"stcn": BASE, "crvos": F}.get(name, {}))
    network = covos(base.eval())
    alone, wrapped = base.begin(frame(0, plain=True), given(2)), network.begin(frame(0, plain=True), given(2))
    calls: list[int] = []
    assert network.encoder is not None
    network.encoder.register_forward_hook(lambda *_: calls.append(1))
    for index in range(1, 5):
        expected, alone = base.step(frame(index, plain=True), alone)
        logits, wrapped = network.step(frame(index, plain=True), wrapped)
        assert torch.equal(logits, expected)
        if index == 2:
            alone = base.add(frame(2, plain=True), given(1, 2), alone)
            wrapped = network.add(frame(2, plain=True), given(1, 2), wrapped)
    assert not calls, "nothing asks for features"
    assert len(wrapped.buffered) <= 18


@pytest.mark.parametrize("objects", [0, 1, 3, 12])
@torch.no_grad()
def test_logits_are_a_distribution_over_any_number_of_objects(objects: int) -> None:
    outputs, _ = video(covos(stcn()), given(objects) if objects else Masks(given(1).probs[:, :0], torch.ones(1, 0) > 0))
    for logits in outputs.values():
        assert logits.shape == (1, objects + 1, HEIGHT, WIDTH)
        assert torch.isfinite(logits).all()
        assert torch.allclose(logits.softmax(1).sum(1), torch.ones(1, HEIGHT, WIDTH))


@torch.no_grad()
def test_unused_slots_change_nothing_and_are_never_predicted() -> None:
    network = covos()
    alone, _ = video(network, given(1))
    probs = torch.cat([given(1).probs, torch.zeros(1, 1, HEIGHT, WIDTH)], 1)
    state = network.begin(frame(0), Masks(probs, torch.tensor([[True, False]])))
    state.buffered[0].probs[:, 1] = 0
    _, state = network.step(frame(4), state)
    state.buffered[1] = replace(state.buffered[1], probs=torch.cat([small(square(4)), small(square(4)) * 0], 1))
    logits, _ = network.step(frame(2), state)
    assert torch.allclose(logits[:, :2], alone[2], atol=1e-4)
    assert (logits[:, 2] < -1e3).all()


@torch.no_grad()
def test_forks_agree_and_runs_repeat() -> None:
    network = covos(stcn())
    first, _ = video(network, given(2))
    again, _ = video(network, given(2))
    assert all(torch.equal(first[index], again[index]) for index in first)
    state = network.begin(frame(0), given(2))
    _, state = network.step(frame(4), state)
    fork = state.clone()
    a, _ = network.step(frame(2), state)
    b, _ = network.step(frame(2), fork)
    assert torch.equal(a, b)
    assert {leaf.device.type for leaf in pytree.tree_leaves(fork.to("meta")) if isinstance(leaf, Tensor)} == {"meta"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_is_finite(dtype: torch.dtype) -> None:
    network = covos(stcn(), threshold=0.0)
    state = network.begin(frame(0), given(2))
    with torch.autocast("cpu", dtype):
        for index in ORDER[1:]:
            logits, state = network.step(noisy(index), state)
            assert torch.isfinite(logits).all()
            assert torch.allclose(logits.float().softmax(1).sum(1), torch.ones(1, HEIGHT, WIDTH), atol=1e-2)


def test_gradients_reach_exactly_the_decoder() -> None:
    network = covos(stcn(), backbone="resnet18").train()
    assert not network.base.training  # type: ignore[attr-defined]
    state = network.begin(frame(0), given(10))
    _, state = network.step(frame(4), state)
    logits, _ = network.step(noisy(2), state)
    logits.square().mean().backward()
    assert network.decoder is not None
    for name, parameter in network.decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {f"decoder.{name}" for name, _ in network.decoder.named_parameters()}


@torch.no_grad()
def test_objects_added_later_have_no_masks_in_older_frames() -> None:
    network = covos(refine=False, correction=False)
    state = network.begin(frame(0), given(1))
    _, state = network.step(frame(4), state)
    late = torch.zeros(1, 1, HEIGHT, WIDTH)
    late[..., 24:40, 44:52] = 1
    state = network.add(frame(4), Masks(late, torch.ones(1, 1, dtype=torch.bool)), state)
    assert [entry.probs.shape[1] for entry in state.buffered] == [1, 2]
    old, new = state.buffered[1].probs[0]
    assert (new == small(late)[0, 0]).all()
    assert (old == small(square(4))[0, 0] * (1 - new)).all(), "the older gives way"
    propagated, _ = network.propagate(frame(2), state)
    assert propagated.probs.shape == (1, 2, HEIGHT // 4, WIDTH // 4)
    assert propagated.probs[0, 1].amax() == 0.5, "half of the references know it"
    with pytest.raises(ValueError, match="frame 2: objects can be added on key frames only"):
        network.add(frame(2), given(1), network.step(frame(2), state)[1])


@torch.no_grad()
def test_a_long_video_without_key_frames_does_not_grow() -> None:
    network = covos(buffer=3)
    state = network.begin(frame(0), given(1))
    _, state = network.step(frame(4), state)
    sizes = []
    for index in range(5, 25):
        references = torch.tensor([index - 1, -1]).view(1, 2, 1, 1).expand(1, 2, HEIGHT, WIDTH)
        data = CodecData("B", torch.zeros(1, 4, HEIGHT, WIDTH), references)
        _, state = network.step(Frame(index, frame(0).image, data, key=False), state)
        sizes.append(state.nbytes())
    assert [entry.index for entry in state.buffered] == [0, 4, 22, 23, 24]
    assert sizes[-1] == sizes[5]
    state = network.retain(state, {23})
    assert [entry.index for entry in state.buffered] == [0, 4, 23]


def test_sizes_and_numbers_are_checked() -> None:
    assert covos().stride == 4, "the base divides by 2, the grid by 4"
    assert covos().padding == "mean"
    with pytest.raises(ValueError, match="dilation=-1"):
        covos(dilation=-1)
    with pytest.raises(ValueError, match="features=other: must be"):
        covos(features="other")
    with pytest.raises(ValueError, match="reference=some: choose from foreground, all"):
        covos(reference="some")
    with pytest.raises(ValueError, match="scale=0: must be above 0"):
        covos(scale=0)
