"""Reads by distance, with a kernel, and of a part of the memory."""

from __future__ import annotations

import pytest
import torch

from voslab.nn import affinity
from voslab.nn.affinity import Kernel, attend


def sample(memory: int = 40, objects: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    query = torch.randn(2, 12, 8, generator=rng)
    keys = torch.randn(2, objects, memory, 8, generator=rng)
    return query, keys, torch.randn(2, objects, memory, 5, generator=rng)


def test_l2_is_a_softmax_of_negative_squared_distances() -> None:
    query, keys, values = sample()
    distances = (query[:, None, :, None] - keys[:, :, None]).square().sum(-1)
    expected = (-distances / 8**0.5).softmax(-1) @ values
    assert torch.allclose(attend(query, keys, values, similarity="l2"), expected, atol=1e-5)


def test_shared_keys_read_every_object_alike() -> None:
    query, keys, values = sample()
    shared = keys[:, :1]
    together = attend(query, shared, values, 7, "l2")
    for i in range(2):
        alone = attend(query, shared, values[:, i : i + 1], 7, "l2")
        assert torch.allclose(together[:, i], alone[:, 0], atol=1e-6)


def test_distances_are_exact_under_autocast() -> None:
    query, keys, values = sample()
    # Far from the origin |k|² has no digits left in half precision.
    query, keys = query + 100, keys + 100
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(query, keys, values, similarity="l2")
    expected = (-(query[:, None, :, None] - keys[:, :, None]).square().sum(-1) / 8**0.5).softmax(-1) @ values
    assert torch.allclose(found.float(), expected, atol=0.02)


def naive_kernel(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, top_k: int | None) -> torch.Tensor:
    """Clip by clip, object by object, as KMN describes it, on a grid of 3 x 4 cells."""
    output = torch.zeros(*values.shape[:2], query.shape[1], values.shape[-1])
    cells = torch.tensor([(row, column) for row in range(3) for column in range(4)], dtype=torch.float32)
    for b in range(values.shape[0]):
        for o in range(values.shape[1]):
            scores = query[b] @ keys[b, o].T / 8**0.5
            best = cells[scores.argmax(0)]
            gaussian = (-torch.cdist(cells, best).square() / (2 * 1.5**2)).exp()
            weights = scores.exp() * gaussian
            if top_k is not None:
                weights = weights * (weights >= weights.topk(top_k, 1).values[:, -1:])
            output[b, o] = weights / weights.sum(1, keepdim=True) @ values[b, o]
    return output


@pytest.mark.parametrize("top_k", [None, 7])
@pytest.mark.parametrize("chunk", [2**25, 400])
def test_a_kernel_weighs_by_the_distance_to_the_best_position(
    monkeypatch: pytest.MonkeyPatch, top_k: int | None, chunk: int
) -> None:
    monkeypatch.setattr(affinity, "CHUNK", chunk)
    query, keys, values = sample()
    found = attend(query, keys, values, top_k, kernel=Kernel(1.5, 4))
    assert torch.allclose(found, naive_kernel(query, keys, values, top_k), atol=1e-5)


@pytest.mark.parametrize("top_k", [None, 30])
def test_unused_positions_are_not_read(top_k: int | None) -> None:
    query, keys, values = sample()
    used = torch.ones(2, 40, dtype=torch.bool)
    used[1, 10:35] = False
    values[1, :, 10:35] = 1e6
    found = attend(query, keys, values, top_k, "l2", readable=used)
    kept = torch.cat([torch.arange(10), torch.arange(35, 40)])
    alone = attend(query[1:], keys[1:, :, kept], values[1:, :, kept], None, "l2")
    assert torch.allclose(found[1:], alone, atol=1e-5)
    assert torch.allclose(found[:1], attend(query[:1], keys[:1], values[:1], top_k, "l2"), atol=1e-5)


@pytest.mark.parametrize("top_k", [None, 5])
def test_gradients_reach_queries_keys_and_values(top_k: int | None) -> None:
    tensors = [x.requires_grad_() for x in sample()]
    query, keys, values = tensors
    attend(query, keys, values, top_k, "l2", Kernel(1.0, 4)).square().sum().backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in tensors)
