from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from voslab.core import VOID
from voslab.nn.losses import bootstrapped_nll, dice, nll


def labels_with_a_square(size: int) -> torch.Tensor:
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    labels[:, 4 : 4 + size, 4 : 4 + size] = 1
    return labels


def logits_for(labels: torch.Tensor, objects: int = 1, strength: float = 20.0) -> torch.Tensor:
    slots = torch.arange(objects + 1).view(1, -1, 1, 1)
    return strength * (labels.unsqueeze(1) == slots).float()


@pytest.mark.parametrize("size", [2, 20])
def test_dice_is_zero_for_the_truth_and_near_one_for_nothing_whatever_the_size(size: int) -> None:
    labels = labels_with_a_square(size)
    assert dice(logits_for(labels), labels).item() == pytest.approx(0, abs=1e-3)
    assert dice(logits_for(torch.zeros_like(labels)), labels).item() > 0.75


def test_nll_forgives_a_small_object_and_dice_does_not() -> None:
    small = labels_with_a_square(2)
    nothing = logits_for(torch.zeros_like(small), strength=3.0)
    assert nll(nothing, small) < 0.1
    assert dice(nothing, small) > 0.7


def test_dice_looks_at_neither_void_nor_absent_objects() -> None:
    labels = labels_with_a_square(8)
    logits = logits_for(labels, objects=3)
    assert dice(logits, labels).item() == pytest.approx(0, abs=1e-3)
    spoiled = logits.clone()
    spoiled[:, :, 20:] = 50 * torch.rand(1, 4, 12, 32)
    labels[:, 20:] = VOID
    assert dice(spoiled, labels).item() == pytest.approx(0, abs=1e-3)


def test_dice_without_objects_is_zero_with_a_gradient_path() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = dice(logits, torch.zeros(2, 4, 4, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


@pytest.mark.parametrize("loss", [nll, dice, partial(bootstrapped_nll, keep_ratio=0.3)])
def test_loss_of_a_batch_is_the_mean_over_its_samples(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    rng = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, 3, 8, 8, generator=rng), torch.randint(0, 3, (2, 8, 8), generator=rng)
    labels[0, :6] = VOID
    separate = [loss(logits[i : i + 1], labels[i : i + 1]) for i in range(2)]
    assert torch.allclose(loss(logits, labels), (separate[0] + separate[1]) / 2)
