from __future__ import annotations

import pytest
import torch

from voslab.nn import affinity
from voslab.nn.affinity import attend, largest


def inputs(batch: int = 2, objects: int = 3, shared: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    query = torch.randn(batch, 5, 4, generator=rng)
    keys = torch.randn(batch, 1 if shared else objects, 7, 4, generator=rng)
    return query, keys, torch.randn(batch, objects, 7, 6, generator=rng)


@pytest.mark.parametrize("shared", [False, True])
def test_it_is_the_softmax_weighted_sum(shared: bool) -> None:
    query, keys, values = inputs(shared=shared)
    for b in range(2):
        for o in range(3):
            weights = (query[b] @ keys[b, 0 if shared else o].T / 2).softmax(1)
            assert torch.allclose(attend(query, keys, values)[b, o], weights @ values[b, o], atol=1e-6)


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_reading_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch, top_k: int | None, shared: bool) -> None:
    whole = attend(*inputs(shared=shared), top_k)
    monkeypatch.setattr(affinity, "CHUNK", 2 * 2 * 3 * 7)
    assert torch.allclose(attend(*inputs(shared=shared), top_k), whole, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_top_k_reads_the_most_similar_positions_only(shared: bool) -> None:
    query, keys, values = inputs(shared=shared)
    scores = query.unsqueeze(1) @ keys.transpose(2, 3) / 2
    few = scores.masked_fill(scores < scores.topk(2).values[..., -1:], -torch.inf)
    assert torch.allclose(attend(query, keys, values, 2), few.softmax(-1) @ values, atol=1e-6)
    assert torch.allclose(attend(query, keys, values, 99), attend(query, keys, values))


def test_memory_has_no_order() -> None:
    query, keys, values = inputs()
    order = torch.randperm(7)
    assert torch.allclose(attend(query, keys[:, :, order], values[:, :, order]), attend(query, keys, values), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("top_k", [None, 3])
def test_half_precision_neither_overflows_nor_loses_the_softmax(dtype: torch.dtype, top_k: int | None) -> None:
    query, keys, values = (x.to(dtype) for x in inputs())
    query, keys = query * 100, keys * 100
    exact = attend(query.double().float(), keys.float(), values.float(), top_k)
    with torch.autocast("cpu", torch.bfloat16):
        read = attend(query, keys, values, top_k)
    assert read.dtype == dtype
    assert torch.allclose(read.float(), exact, atol=0.02)


@pytest.mark.parametrize("top_k", [None, 3])
def test_gradients_reach_query_keys_and_values(top_k: int | None) -> None:
    leaves = [x.requires_grad_() for x in inputs()]
    attend(*leaves, top_k).square().sum().backward()
    assert all(leaf.grad is not None and leaf.grad.abs().sum() > 0 for leaf in leaves)


@pytest.mark.parametrize("size", [60, 61, 4860])
def test_the_largest_are_those_of_topk(size: int) -> None:
    scores = torch.rand(2, 1, 7, size)
    scores[..., ::3] = -torch.inf
    best, index = largest(scores, 4)
    assert torch.equal(best, scores.topk(4).values)
    assert torch.equal(scores.gather(-1, index), best)


def test_the_largest_may_be_neighbours_or_in_one_group() -> None:
    scores = torch.zeros(2, 60)
    scores[0, 20:24] = torch.tensor([1.0, 4, 2, 3])
    scores[1, ::4] = torch.arange(15.0)  # every position of a group of 15
    assert largest(scores, 4)[1].tolist() == [[21, 23, 22, 20], [56, 52, 48, 44]]
