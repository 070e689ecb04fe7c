from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from voslab.methods.adaptation import affinity
from voslab.methods.adaptation.affinity import heat

COMPARISONS = ("dot", "l2", "linear")


def sides(groups: int, objects: int = 2, count: int = 7, memory: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(3)
    query = torch.randn(2, count, 4, generator=rng, dtype=torch.float64)
    keys = torch.randn(2, groups, memory, 4, generator=rng, dtype=torch.float64)
    return query, keys, torch.rand(2, objects, memory, generator=rng, dtype=torch.float64)


def slow(query: Tensor, keys: Tensor, comparison: str, scale: float, exclude_self: bool) -> list[list[float]]:
    """Eq. 1, one number after the other: query N C, keys M C -> A."""
    found = []
    for i, q in enumerate(query.tolist()):
        row = []
        for j, k in enumerate(keys.tolist()):
            dot = sum(a * b for a, b in zip(q, k, strict=True))
            if comparison == "l2":
                dot = 2 * dot - sum(b * b for b in k)
            weight = math.exp(dot * scale)
            if comparison == "linear":
                over = [[math.exp(x) for x in column] for column in keys.t().tolist()]
                weight = sum(math.exp(a) * e[j] / sum(e) for a, e in zip(q, over, strict=True))
            row.append(0.0 if exclude_self and i == j else weight)
        found.append([weight / sum(row) for weight in row])
    return found


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_heat_is_the_affinity_on_the_object(comparison: str, groups: int, exclude_self: bool) -> None:
    query, keys, masks = sides(groups)
    found = heat(query, keys, masks, comparison, exclude_self=exclude_self)  # type: ignore[arg-type]
    for b in range(2):
        for o in range(2):
            rows = slow(query[b], keys[b, o % groups], comparison, 0.5, exclude_self)
            expected = [sum(m * a for m, a in zip(masks[b, o].tolist(), row, strict=True)) for row in rows]
            assert torch.allclose(found[b, o], torch.tensor(expected, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_gradients_equal_finite_differences(comparison: str, groups: int, exclude_self: bool) -> None:
    query, keys, masks = sides(groups, count=4, memory=4)
    query.requires_grad_()
    keys.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda q, k: heat(q, k, masks, comparison, exclude_self=exclude_self),  # type: ignore[arg-type]
        (query, keys),
    )


@pytest.mark.parametrize("comparison", ["dot", "l2"])
def test_chunks_do_not_change_the_result(comparison: str, monkeypatch: pytest.MonkeyPatch) -> None:
    query, keys, masks = sides(2)
    results = []
    for chunk in (2**22, 2 * 2 * 7 * 3):
        monkeypatch.setattr(affinity, "CHUNK", chunk)
        a, b = query.clone().requires_grad_(), keys.clone().requires_grad_()
        found = heat(a, b, masks, comparison, exclude_self=True)  # type: ignore[arg-type]
        grads = torch.autograd.grad((found * masks).square().sum(), (a, b))
        results.append((found.detach(), *grads))
    for whole, parts in zip(*results, strict=True):
        assert torch.allclose(whole, parts, atol=1e-12)


def test_scale_defaults_to_that_of_the_base() -> None:
    query, keys, masks = sides(1)
    assert torch.equal(heat(query, keys, masks, "dot"), heat(query, keys, masks, "dot", 0.5))
    assert torch.allclose(heat(query, keys, masks, "dot", 1.0), heat(2 * query, keys, masks, "dot"), atol=1e-12)


@pytest.mark.parametrize("comparison", ["dot", "l2"])
def test_keys_of_any_length_are_finite(comparison: str) -> None:
    query, keys, masks = (x.float() for x in sides(1))
    query, keys = (1e6 * query).requires_grad_(), (1e6 * keys).requires_grad_()
    found = heat(query, keys, masks, comparison)  # type: ignore[arg-type]
    grads = torch.autograd.grad(found.sum(), (query, keys))
    assert all(x.isfinite().all() for x in (found, *grads))


def test_single_position_attends_to_itself() -> None:
    query, keys, masks = sides(1, count=1, memory=1)
    for comparison in COMPARISONS:
        found = heat(query, keys, masks, comparison, exclude_self=True)  # type: ignore[arg-type]
        assert torch.allclose(found, masks, atol=1e-12)
