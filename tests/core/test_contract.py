from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from src.core import VOID, Frame, Masks, ObjectTable, Segmenter, State, generator, state
from src.methods import registry


@state
class Nested(State):
    masks: Masks
    count: int
    memory: list[torch.Tensor]
    nothing: torch.Tensor | None = None


def nested(requires_grad: bool = False) -> Nested:
    planes = torch.rand(1, 2, 3, 3, requires_grad=requires_grad)
    return Nested(Masks(planes, torch.ones(1, 2, dtype=torch.bool)), 4, [torch.rand(2) * 1.0])


def test_clone_forks_and_keeps_numbers() -> None:
    first = nested()
    second = first.clone()
    second.memory[0].zero_()
    second.masks.planes.zero_()
    assert first.memory[0].abs().sum() > 0
    assert first.masks.planes.sum() > 0
    assert (second.count, second.nothing) == (4, None)


def test_detach_truncates_and_to_moves() -> None:
    made = nested(requires_grad=True)
    assert not made.detach().masks.planes.requires_grad
    assert made.to("meta").memory[0].device.type == "meta"


def test_a_state_is_a_pytree() -> None:
    leaves, spec = pytree.tree_flatten(nested())
    assert sum(isinstance(leaf, torch.Tensor) for leaf in leaves) == 3
    assert pytree.tree_unflatten(leaves, spec).count == 4


def test_masks_from_labels_skip_void_and_unused_slots() -> None:
    labels = torch.tensor([[[0, 1, 2, VOID]]])
    masks = Masks.from_labels(labels, torch.tensor([[True, False, True]]))
    assert masks.planes[0, :, 0].tolist() == [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_appended_masks_win_inside_their_mask() -> None:
    old = Masks(torch.full((1, 1, 1, 4), 0.8), torch.ones(1, 1, dtype=torch.bool))
    new = Masks(torch.tensor([[[[1.0, 0, 0, 1]]]]), torch.ones(1, 1, dtype=torch.bool))
    assert old.append(new).planes[0, :, 0].tolist() == [
        [0, pytest.approx(0.8), pytest.approx(0.8), 0],
        [1, 0, 0, 1],
    ]
    none = Masks(torch.zeros(1, 0, 1, 4), torch.zeros(1, 0, dtype=torch.bool))
    assert torch.equal(none.append(old).planes, old.planes)
    assert torch.equal(old.append(none).planes, old.planes)


@given(st.lists(st.integers(-(2**31), 2**31).filter(bool), unique=True, max_size=20), st.integers(0, 99))
def test_ids_survive_the_table(ids: list[int], seed: int) -> None:
    table = ObjectTable(ids)
    labels = generator(seed).choice(np.array([0, *ids]), (5, 6))
    slots = table.to_slots(labels)
    assert slots.max() <= len(ids)
    assert np.array_equal(table.to_ids(slots), labels)


def test_a_slot_never_moves_and_zero_is_no_object() -> None:
    table = ObjectTable([9, 3])
    assert table.add([3, 0, 5, 5]) == [5]
    assert table.ids == (9, 3, 5)
    assert table.to_slots(np.array([4, 3, 0])).tolist() == [0, 2, 0]


def test_keyed_randomness_does_not_depend_on_order() -> None:
    first = generator(1, "texture", 2).random(3)
    generator(5).random(100)
    assert np.array_equal(first, generator(1, "texture", 2).random(3))
    assert not np.array_equal(first, generator(1, "texture", 3).random(3))
    assert not np.array_equal(first, generator(1, "shape", 2).random(3))


TINY = {"backbone": "resnet18", "norm": "group", "width": 8}
MATCHING = {**TINY, "key_channels": 8, "value_channels": 16, "decoder_width": 8}
SMALL: dict[str, dict[str, object]] = {
    "crvos": TINY,
    "gam": {**MATCHING, "mem_channels": 16, "object_chunk": 2},
    "mivos": {**MATCHING, "memory_every": 2, "object_chunk": 2, "top_k": 5, "kernel": 2.0},
    "stcn": {**MATCHING, "memory_every": 2, "object_chunk": 2, "top_k": 5},
    "swiftnet": {**MATCHING, "memory_every": 1, "memory_bound": 2, "object_chunk": 2},
    "stm": {**MATCHING, "memory_every": 2, "object_chunk": 2},
}


@pytest.fixture(params=registry.names())
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    torch.manual_seed(0)
    made = registry.build(request.param, SMALL.get(request.param, {}))
    assert isinstance(made, torch.nn.Module)
    return made.eval()


def frames(count: int, batch: int = 1) -> list[Frame]:
    rng = torch.Generator().manual_seed(1)
    return [Frame(i, torch.rand(batch, 3, 32, 48, generator=rng)) for i in range(count)]


def planes(objects: int, batch: int = 1) -> Masks:
    ids = torch.arange(48).view(1, 1, 1, 48) // (48 // max(1, objects + 1))
    slots = torch.arange(1, objects + 1).view(1, -1, 1, 1)
    made = (ids == slots).float().expand(batch, objects, 32, 48)
    return Masks(made, torch.ones(batch, objects, dtype=torch.bool))


@pytest.mark.parametrize("objects", [0, 1, 3])
@torch.no_grad()
def test_every_method_gives_a_distribution(segmenter: Segmenter, objects: int) -> None:
    first, second, third = frames(3)
    state = segmenter.begin(first, planes(objects))
    for frame in (second, third):
        logits, state = segmenter.step(frame, state)
        assert logits.shape == (1, objects + 1, 32, 48)
        assert torch.isfinite(logits).all()
        assert torch.allclose(logits.softmax(1).sum(1), torch.ones(1, 32, 48))


@torch.no_grad()
def test_every_method_permutes_with_its_objects(segmenter: Segmenter) -> None:
    first, second, third = frames(3)
    order = torch.tensor([2, 0, 1])
    given_masks = planes(3)
    straight = segmenter.begin(first, given_masks)
    permuted = segmenter.begin(first, Masks(given_masks.planes[:, order], given_masks.valid))
    for frame in (second, third):
        a, straight = segmenter.step(frame, straight)
        b, permuted = segmenter.step(frame, permuted)
    assert torch.allclose(a[:, 1:][:, order], b[:, 1:], atol=1e-4)
    assert torch.allclose(a[:, 0], b[:, 0], atol=1e-4)


@torch.no_grad()
def test_every_method_ignores_unused_slots_and_keeps_clips_apart(segmenter: Segmenter) -> None:
    first, second = frames(2, batch=2)
    both = planes(2, batch=2)
    valid = torch.tensor([[True, True], [True, False]])
    together, _ = segmenter.step(second, segmenter.begin(first, Masks(both.planes * valid[:, :, None, None], valid)))
    alone_first = Frame(0, first.image[1:])
    only = Masks(both.planes[1:, :1], torch.ones(1, 1, dtype=torch.bool))
    alone, _ = segmenter.step(Frame(1, second.image[1:]), segmenter.begin(alone_first, only))
    assert torch.allclose(together[1, :2], alone[0], atol=1e-4)
    assert (together[1, 2] < -1e3).all()


@torch.no_grad()
def test_every_method_takes_objects_that_appear_later(segmenter: Segmenter) -> None:
    first, second, third = frames(3)
    state = segmenter.begin(first, planes(1))
    _, state = segmenter.step(second, state)
    state = segmenter.add(second, planes(2), state)
    logits, _ = segmenter.step(third, state)
    assert logits.shape == (1, 4, 32, 48)


@torch.no_grad()
def test_every_method_forks(segmenter: Segmenter) -> None:
    first, second, third = frames(3)
    state = segmenter.begin(first, planes(2))
    _, state = segmenter.step(second, state)
    fork = state.clone()
    a, _ = segmenter.step(third, state)
    b, _ = segmenter.step(third, fork)
    assert torch.equal(a, b)
