from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from voslab.core import VOID
from voslab.nn.losses import bootstrap_ratio, bootstrapped_nll, nll


def sample(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, 10, 20, generator=rng), torch.randint(0, 3, (batch, 10, 20), generator=rng)


def test_all_pixels_are_plain_cross_entropy() -> None:
    logits, labels = sample()
    assert bootstrapped_nll(logits, labels, 1.0).item() == pytest.approx(F.cross_entropy(logits, labels).item())


def test_the_hardest_pixels_of_each_sample_count() -> None:
    logits, labels = sample()
    logits[1] *= 5
    pixels = F.cross_entropy(logits, labels, reduction="none").flatten(1)
    hardest = pixels.topk(30, 1).values.mean()
    assert bootstrapped_nll(logits, labels, 0.15).item() == pytest.approx(hardest.item())
    assert bootstrapped_nll(logits, labels, 0.15) > nll(logits, labels)


@pytest.mark.parametrize("kept", [1.0, 0.5, 1e-6])
def test_void_pixels_neither_count_nor_matter(kept: float) -> None:
    logits, labels = sample(1)
    spoiled, void = logits.clone(), labels.clone()
    spoiled[..., 10:] *= 50
    void[..., 10:] = VOID
    alone = bootstrapped_nll(logits[..., :10].contiguous(), labels[..., :10].contiguous(), kept)
    assert bootstrapped_nll(spoiled, void, kept).item() == pytest.approx(alone.item())


@pytest.mark.parametrize("kept", [1.0, 0.15])
def test_nothing_but_void_is_zero_with_a_gradient_path(kept: float) -> None:
    logits, labels = sample()
    logits.requires_grad_()
    loss = bootstrapped_nll(logits, torch.full_like(labels, VOID), kept)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_only_kept_pixels_get_gradients() -> None:
    logits, labels = sample()
    logits.requires_grad_()
    bootstrapped_nll(logits, labels, 0.1).backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum(1) > 0).sum((1, 2)).tolist() == [20, 20]


def test_the_share_falls_linearly() -> None:
    shares = [bootstrap_ratio(step) for step in (0, 19_999, 20_000, 45_000, 69_999, 70_000, 10**6)]
    assert shares == pytest.approx([1, 1, 1, 0.575, 0.150017, 0.15, 0.15])
