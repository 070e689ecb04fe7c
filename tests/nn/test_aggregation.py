from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.support import Golden
from voslab.nn.aggregation import UNUSED, aggregate_min, aggregate_product, object_probabilities


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("agg")


def all_valid(objects: int) -> torch.Tensor:
    return torch.ones(1, objects, dtype=torch.bool)


@pytest.mark.parametrize("objects", [1, 2, 3, 4])
def test_product_form(golden: Golden, objects: int) -> None:
    logits = aggregate_product(torch.from_numpy(golden[f"k{objects}_p"])[None].logit(), all_valid(objects))
    golden.check(f"k{objects}_product", logits.softmax(1)[0], absolute=True)


@pytest.mark.parametrize("objects", [1, 2, 3, 4])
def test_minimum_form(golden: Golden, objects: int) -> None:
    scores = torch.from_numpy(golden[f"k{objects}_scores"])[None]
    logits = aggregate_min(scores[:, :, 1] - scores[:, :, 0], all_valid(objects))
    probabilities = object_probabilities(logits)
    golden.check(f"k{objects}_min", probabilities[0], absolute=True)
    golden.check(f"k{objects}_min_state1", torch.stack([1 - probabilities[0, 0], probabilities[0, 0]]), absolute=True)
    stored = golden[f"k{objects}_min_labels"]
    top = logits[0].softmax(0).topk(2, 0).values
    decided = ((top[0] - top[1]) > 1e-3).numpy() & (stored != 255)
    assert decided.mean() > 0.8
    assert (logits[0].argmax(0).numpy()[decided] == stored[decided]).all()


@pytest.mark.parametrize("rule", [aggregate_min, aggregate_product])
@given(objects=st.integers(1, 5), seed=st.integers(0, 1000))
def test_a_distribution_that_follows_the_order_of_objects(rule, objects: int, seed: int) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    rng = torch.Generator().manual_seed(seed)
    inputs = torch.rand(1, objects, 3, 4, generator=rng)
    order = torch.randperm(objects, generator=rng)
    straight = rule(inputs, all_valid(objects)).softmax(1)
    permuted = rule(inputs[:, order], all_valid(objects)).softmax(1)
    assert torch.allclose(straight.sum(1), torch.ones(1, 3, 4))
    assert torch.allclose(straight[:, 1:][:, order], permuted[:, 1:], atol=1e-6)


@pytest.mark.parametrize("rule", [aggregate_min, aggregate_product])
def test_certain_objects_share_a_pixel_equally(rule) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    logits = torch.tensor([20.0, torch.inf, -torch.inf]).view(1, 3, 1, 1)
    probabilities = rule(logits, all_valid(3)).softmax(1).flatten()
    assert torch.allclose(probabilities, torch.tensor([0, 0.5, 0.5, 0]), atol=1e-6)


@pytest.mark.parametrize("rule", [aggregate_min, aggregate_product])
def test_unused_slots_change_nothing(rule) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    inputs = torch.rand(1, 3, 4, 5)
    slot_mask = torch.tensor([[True, False, True]])
    with_unused = rule(inputs, slot_mask)
    without = rule(inputs[:, [0, 2]], all_valid(2))
    assert (with_unused[:, 2] == UNUSED).all()
    assert torch.allclose(with_unused[:, [0, 1, 3]], without, atol=1e-6)


@pytest.mark.parametrize("rule", [aggregate_min, aggregate_product])
def test_without_objects_everything_is_background(rule) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    logits = rule(torch.zeros(2, 0, 3, 4), torch.zeros(2, 0, dtype=torch.bool))
    assert logits.shape == (2, 1, 3, 4)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("rule", [aggregate_min, aggregate_product])
def test_half_precision_and_extreme_scores_stay_finite_with_gradients(rule) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    scores = torch.tensor([[-3e4, -1.0, 0.0, 1.0, 3e4, torch.inf]], dtype=torch.half).view(1, 1, 1, 6).requires_grad_()
    logits = rule(scores, all_valid(1))
    logits.log_softmax(1)[:, 1].sum().backward()
    assert torch.isfinite(logits).all()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad[..., 1:4] > 0).all()


def test_a_background_that_nobody_claims_keeps_its_digits() -> None:
    certain = torch.tensor([6.0, 7.0]).view(1, 2, 1, 1)
    exact = torch.tensor([-6.0, -7.0], dtype=torch.float64).sigmoid().log().sum()
    expected = exact - torch.log(-torch.expm1(exact))
    assert aggregate_product(certain, all_valid(2))[0, 0].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("rule", [aggregate_min, aggregate_product])
def test_one_object_is_sharpened(rule) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    p = np.float32(0.8)
    logits = rule(torch.logit(torch.tensor(p)).view(1, 1, 1, 1), all_valid(1))
    assert logits.softmax(1)[0, 1].item() == pytest.approx(p**2 / (p**2 + (1 - p) ** 2), abs=1e-6)
