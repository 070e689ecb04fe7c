from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tests.methods.adaptation.world import BASES, adapted, base, frame, masks, outputs
from voslab.engine import Settings, run
from voslab.nn.key_projections import copy_keys


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("objects", [0, 1, 2])
def test_zero_steps_equal_the_base(name: str, objects: int) -> None:
    expected = outputs(base(name), 5, objects, late=2)
    assert equal(outputs(adapted(name, steps=0), 5, objects, late=2), expected)
    assert equal(outputs(adapted(name).train(), 5, objects, late=2), outputs(base(name).train(), 5, objects, late=2))


@pytest.mark.parametrize("name", BASES)
@torch.no_grad()
def test_copied_keys_change_nothing(name: str) -> None:
    network = base(name)
    expected = outputs(network, 5, 2, late=2)
    state = network.begin(frame(0), masks(2))
    _, compared = network.compare(state)
    state = network.with_keys(compared, copy_keys(network.key_layers(), 1))
    for index in range(1, 5):
        logits, state = network.step(frame(index), state)
        assert torch.equal(logits, expected[index - 1])
        if index == 2:
            state = network.add(frame(index), masks(1, first=2), state)
            state = network.with_keys(network.compare(state)[1], state.keys)


@pytest.mark.parametrize("name", BASES)
def test_adaptation_changes_the_state_and_not_the_network(name: str) -> None:
    network = adapted(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = outputs(network, 4, 2)
    assert not torch.allclose(found[0], outputs(base(name), 4, 2)[0], atol=1e-4)
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert equal(outputs(network, 4, 2), found), "and so the next video begins anew"


@pytest.mark.parametrize("name", BASES)
@torch.no_grad()
def test_only_key_projections_are_adapted(name: str) -> None:
    network = adapted(name, steps=3)
    state = network.begin(frame(0), masks(2))
    keys = state.base.keys
    layers = network.base.key_layers()
    assert (keys.memory is None) == (len(layers) == 1)
    for layer, own in zip(layers, (keys.query, keys.memory), strict=False):
        assert own.weight.shape == (1, *layer.weight.shape)
        assert not torch.equal(own.weight[0], layer.weight)
    if network.comparison == "dot":
        # What is added to every key of the memory changes no softmax over them: that bias has no slope.
        assert not torch.allclose(keys.query.bias[0], layers[0].bias, atol=1e-3)
    # A network in which these weights are the module's own gives what the state's give.
    twin = base(name)
    for layer, own in zip(twin.key_layers(), (keys.query, keys.memory), strict=False):
        layer.weight.copy_(own.weight[0])
        layer.bias.copy_(own.bias[0])
    assert equal(outputs(network, 5, 2), outputs(twin, 5, 2))


@pytest.mark.parametrize("projections", ["query", "memory"])
@pytest.mark.parametrize("name", BASES)
@torch.no_grad()
def test_single_projection_affects_only_its_side(name: str, projections: str) -> None:
    network = adapted(name, projections=projections)
    state = network.begin(frame(0), masks(1))
    keys, before = state.base.keys, copy_keys(network.base.key_layers(), 1)
    assert torch.equal(keys.query.weight, before.query.weight) == (projections == "memory")
    assert torch.equal(keys.stored.weight, before.stored.weight) == (projections == "query")
    found = outputs(network, 4)
    assert not torch.allclose(found[-1], outputs(base(name), 4)[-1], atol=1e-5)


@pytest.mark.parametrize("name", BASES)
@torch.no_grad()
def test_interleaved_videos_are_independent(name: str) -> None:
    network = adapted(name)
    alone = []
    for first in (0, 10):
        state = network.begin(frame(first), masks(1))
        for index in (1, 2, 3):
            logits, state = network.step(frame(first + index), state)
        alone.append(logits)
    states = [network.begin(frame(first), masks(1)) for first in (0, 10)]
    for index in (1, 2, 3):
        for i, first in enumerate((0, 10)):
            logits, states[i] = network.step(frame(first + index), states[i])
            if index == 3:
                assert torch.equal(logits, alone[i])


@pytest.mark.parametrize("name", BASES)
def test_no_gradients_remain(name: str) -> None:
    network = adapted(name)
    with torch.no_grad():
        quiet = network.step(frame(1), network.begin(frame(0), masks(2)))[0]
    with torch.inference_mode():
        inference = network.step(frame(1), network.begin(frame(0), masks(2)))[0]
    state = network.begin(frame(0), masks(2))
    [what] = state.adaptations
    leaves = [leaf for leaf in pytree.tree_leaves((state.base.keys, what)) if isinstance(leaf, Tensor)]
    assert not any(leaf.requires_grad for leaf in leaves)
    assert torch.equal(quiet, inference)
    assert torch.allclose(quiet, network.step(frame(1), state)[0], atol=1e-4)


@torch.no_grad()
def test_state_records_the_adaptation_and_its_size() -> None:
    network = adapted(steps=6)
    state = network.begin(frame(7), masks(2))
    [what] = state.adaptations
    assert what.frame == 7
    assert what.objects.shape == what.backgrounds.shape == (1, 7, 2)
    assert what.loss.shape == (1, 7)
    assert what.norms.shape == (1, 7, 2)
    assert what.seconds > 0
    size = sum(2 * 4 * sum(p.numel() for p in layer.parameters()) for layer in network.base.key_layers()) // 2
    assert state.nbytes() >= network.base.compare(network.base.begin(frame(7), masks(2)))[1].nbytes() + size
    fork = state.clone()
    first, _ = network.step(frame(8), state)
    second, _ = network.step(frame(8), fork)
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", BASES)
@torch.no_grad()
def test_first_objects_adapt_keys_on_any_frame(name: str) -> None:
    network = adapted(name)
    state = network.begin(frame(0), masks(0))
    assert state.adaptations == []
    _, state = network.step(frame(1), state)
    state = network.add(frame(1), masks(1), state)
    assert [what.frame for what in state.adaptations] == [1]
    logits, _ = network.step(frame(2), state)
    plain = base(name)
    _, other = plain.step(frame(1), plain.begin(frame(0), masks(0)))
    expected, _ = plain.step(frame(2), plain.add(frame(1), masks(1), other))
    assert not torch.allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("name", BASES)
@torch.no_grad()
def test_readapt_tunes_the_query_for_later_objects(name: str) -> None:
    for readapt in (False, True):
        network = adapted(name, readapt=readapt)
        _, state = network.step(frame(1), network.begin(frame(0), masks(1)))
        before = state.base.keys
        state = network.add(frame(1), masks(1, first=1), state)
        after = state.base.keys
        assert len(state.adaptations) == 1 + readapt
        assert torch.equal(after.stored.weight, before.stored.weight), "what is remembered keeps its keys"
        assert torch.equal(after.query.weight, before.query.weight) != readapt
        logits, _ = network.step(frame(2), state)
        assert logits.shape[1] == 3
        assert logits.isfinite().all()


@torch.no_grad()
def test_half_precision_adapts_in_full_precision() -> None:
    for name in BASES:
        network = adapted(name, steps=20, lr=1.0)
        with torch.autocast("cpu", torch.bfloat16):
            state = network.begin(frame(0), masks(2))
            for index in (1, 2):
                logits, state = network.step(frame(index), state)
        assert logits.isfinite().all()
        assert state.base.keys.query.weight.dtype == torch.float32


def test_engine_runs_adapted_network() -> None:
    network = adapted("stcn")
    images = [(frame(i).image[0].permute(1, 2, 0) * 255).byte().numpy() for i in range(3)]
    labels = masks(2).probs[0, 0].long().numpy()
    found = [p.ids for p in run(network, images, {0: labels}, Settings(None))]
    again = [p.ids for p in run(network, images, {0: labels}, Settings(None))]
    assert all((a == b).all() for a, b in zip(found, again, strict=True))
