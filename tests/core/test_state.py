from __future__ import annotations

import torch

from voslab.core import Masks, State, state_dataclass


@state_dataclass
class Held(State):
    masks: Masks
    memory: list[torch.Tensor]
    count: int = 3
    nothing: torch.Tensor | None = None


def test_nbytes_sums_all_tensors() -> None:
    masks = Masks(torch.zeros(1, 2, 4, 4), torch.ones(1, 2, dtype=torch.bool))
    assert Held(masks, [torch.zeros(5), torch.zeros(3, dtype=torch.float16)]).nbytes() == 2 * 16 * 4 + 2 + 20 + 6


def test_nbytes_counts_shared_storage_once_and_views_as_their_storage() -> None:
    probs, buffer = torch.zeros(1, 2, 4, 4), torch.zeros(100)
    masks = Masks(probs, torch.ones(1, 2, dtype=torch.bool))
    held = Held(masks, [probs.expand(3, -1, -1, -1), buffer[:10], buffer[50:]])
    assert held.nbytes() == 2 * 16 * 4 + 2 + 400
    assert held.clone().nbytes() > held.nbytes()
