from __future__ import annotations

import torch

from voslab.methods.covos.propagation import aggregate_probs, foreground
from voslab.nn.aggregation import aggregate_product


def test_aggregate_probs_is_the_product_form_of_their_log_odds() -> None:
    probs = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    probs[:, :, 0] = torch.tensor([0.0, 1.0, 0.0]).view(3, 1)
    slot_mask = torch.tensor([[True, True, True], [True, False, True]])
    expected = aggregate_product(probs.logit(), slot_mask).softmax(1)
    made = aggregate_probs(probs, slot_mask)
    assert torch.allclose(made, expected, atol=1e-5)
    assert (made[1, 2] == 0).all()


def test_foreground_is_likelier_than_the_background() -> None:
    probs = torch.tensor([0.0, 0.4, 0.6, 2.0]).view(1, 1, 1, 4)
    slot_mask = torch.ones(1, 1, dtype=torch.bool)
    assert foreground(probs, slot_mask).flatten().tolist() == [False, False, True, True]
    assert not foreground(probs, ~slot_mask).any()
