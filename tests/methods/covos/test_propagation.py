from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from voslab.methods.covos.propagation import aggregate_probs, foreground, warp
from voslab.nn.aggregation import aggregate_product


def half_away(x: float) -> int:
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def sample(picture: Tensor, y: float, x: float, bilinear: bool) -> Tensor:
    """One position of C h w; borders are repeated."""
    _, height, width = picture.shape
    if not bilinear:
        return picture[:, min(max(half_away(y), 0), height - 1), min(max(half_away(x), 0), width - 1)]
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    out = torch.zeros(picture.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            share = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
            out += share * picture[:, min(row, height - 1), min(column, width - 1)]
    return out


def slow(pictures: dict[int, Tensor], motion: Tensor, references: Tensor, bilinear: bool, both: bool) -> Tensor:
    batch, _, height, width = motion.shape
    out = torch.zeros(batch, next(iter(pictures.values())).shape[1], height, width)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                seen = []
                for which in range(2):
                    index = int(references[b, which, y, x])
                    if index in pictures:
                        dx, dy = motion[b, 2 * which : 2 * which + 2, y, x].tolist()
                        seen.append(sample(pictures[index][b], y + dy, x + dx, bilinear))
                if seen:
                    seen = seen if both else seen[:1]
                    out[b, :, y, x] = torch.stack(seen).mean(0)
    return out


def fields(seed: int, batch: int = 2, height: int = 6, width: int = 9) -> tuple[Tensor, Tensor]:
    """Quarters of cells up to beyond the borders, and references of which 7 is not there."""
    rng = torch.Generator().manual_seed(seed)
    motion = torch.randint(-60, 61, (batch, 4, height, width), generator=rng) / 8
    references = torch.tensor([-1, 0, 4, 5, 7])[torch.randint(0, 5, (batch, 2, height, width), generator=rng)]
    return motion, references.short()


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_warping_is_what_a_loop_over_cells_gives(bilinear: bool, both: bool, layout: torch.memory_format) -> None:
    for seed in range(3):
        rng = torch.Generator().manual_seed(seed)
        pictures = {index: torch.rand(2, 5, 6, 9, generator=rng).to(memory_format=layout) for index in (0, 4, 5)}
        motion, references = fields(seed)
        fast = warp(pictures, motion, references, bilinear, both)
        expected = slow(pictures, motion, references, bilinear, both)
        assert fast.shape == (2, 5, 6, 9)
        assert torch.allclose(fast, expected, atol=1e-6)


def test_halves_are_rounded_away_from_zero_and_borders_repeated() -> None:
    picture = torch.arange(6.0).view(1, 1, 1, 6)
    motion = torch.zeros(1, 4, 1, 6)
    motion[0, 0, 0] = torch.tensor([-0.5, -0.5, 0.5, 0.25, -9.0, 9.0])
    references = torch.tensor([0, -1]).view(1, 2, 1, 1).expand(1, 2, 1, 6)
    assert warp({0: picture}, motion, references)[0, 0, 0].tolist() == [0, 1, 3, 3, 0, 5]


def test_cells_without_reference_show_nothing() -> None:
    references = torch.full((1, 2, 3, 3), -1)
    references[0, 0, 1, 1] = 8
    assert not warp({0: torch.ones(1, 2, 3, 3)}, torch.zeros(1, 4, 3, 3), references).any()


def test_two_hops_average_averages() -> None:
    pictures = {0: torch.full((1, 1, 2, 2), 1.0), 4: torch.zeros(1, 1, 2, 2)}
    still = torch.zeros(1, 4, 2, 2)
    pictures[2] = warp(pictures, still, torch.tensor([0, 4]).view(1, 2, 1, 1).expand(1, 2, 2, 2))
    third = warp(pictures, still, torch.tensor([0, 2]).view(1, 2, 1, 1).expand(1, 2, 2, 2))
    assert (pictures[2] == 0.5).all()
    assert (third == 0.75).all()


def test_gradients_pass_through_a_warp() -> None:
    picture = torch.rand(2, 3, 6, 9, requires_grad=True)
    motion, references = fields(0)
    warp({0: picture}, motion, references).sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0


def test_the_aggregation_of_planes_is_the_product_form_of_their_log_odds() -> None:
    probs = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    probs[:, :, 0] = torch.tensor([0.0, 1.0, 0.0]).view(3, 1)
    slot_mask = torch.tensor([[True, True, True], [True, False, True]])
    expected = aggregate_product(probs.logit(), slot_mask).softmax(1)
    made = aggregate_probs(probs, slot_mask)
    assert torch.allclose(made, expected, atol=1e-5)
    assert (made[1, 2] == 0).all()


def test_foreground_is_what_is_likelier_than_the_background() -> None:
    probs = torch.tensor([0.0, 0.4, 0.6, 2.0]).view(1, 1, 1, 4)
    slot_mask = torch.ones(1, 1, dtype=torch.bool)
    assert foreground(probs, slot_mask).flatten().tolist() == [False, False, True, True]
    assert not foreground(probs, ~slot_mask).any()
