from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from voslab.core.warp import Combine, Rounding, warp

SIZE = (6, 9)
ROUND = {"half_up": lambda x: math.floor(x + 0.5), "half_even": round}


def fields(seed: int) -> tuple[Tensor, Tensor]:
    """Eighths of cells up to beyond the borders, and references of which 7 has no values."""
    rng = torch.Generator().manual_seed(seed)
    motion = torch.randint(-60, 61, (2, 4, *SIZE), generator=rng) / 8
    references = torch.tensor([-1, 0, 4, 5, 7])[torch.randint(0, 5, (2, 2, *SIZE), generator=rng)]
    return motion, references.short()


def sample(source: Tensor, y: float, x: float, rounding: Rounding) -> Tensor:
    """One position of C h w; borders are repeated."""
    _, height, width = source.shape
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    if rounding != "bilinear":
        return source[:, ROUND[rounding](y), ROUND[rounding](x)]
    out = torch.zeros(source.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            share = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
            out += share * source[:, min(row, height - 1), min(column, width - 1)]
    return out


def slow(
    values: dict[int, Tensor], motion: Tensor, references: Tensor, rounding: Rounding, combine: Combine
) -> tuple[Tensor, Tensor]:
    batch, _, height, width = motion.shape
    out = torch.zeros(batch, next(iter(values.values())).shape[1], height, width)
    used = torch.zeros(batch, 1, height, width, dtype=torch.bool)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                found = []
                for which in range(2):
                    index = int(references[b, which, y, x])
                    if index in values:
                        dx, dy = motion[b, 2 * which : 2 * which + 2, y, x].tolist()
                        found.append(sample(values[index][b], y + dy, x + dx, rounding))
                if found:
                    used[b, 0, y, x] = True
                    out[b, :, y, x] = torch.stack(found if combine == "mean" else found[:1]).mean(0)
    return out, used


@pytest.mark.parametrize("rounding", ["half_up", "half_even", "bilinear"])
@pytest.mark.parametrize("combine", ["mean", "past"])
@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_warp_matches_a_loop_over_cells(
    rounding: Rounding, combine: Combine, channels: int, layout: torch.memory_format
) -> None:
    for seed in range(3):
        rng = torch.Generator().manual_seed(seed)
        values = {i: torch.rand(2, channels, *SIZE, generator=rng).to(memory_format=layout) for i in (0, 4, 5, 6)}
        motion, references = fields(seed)
        found, used = warp(values, motion, references, rounding, combine)
        expected, expected_used = slow(values, motion, references, rounding, combine)
        assert found.shape == (2, channels, *SIZE)
        assert torch.allclose(found, expected, atol=1e-6)
        assert torch.equal(used, expected_used)


@pytest.mark.parametrize(("rounding", "expected"), [("half_up", [0, 1, 3, 3, 0, 5]), ("half_even", [0, 0, 2, 3, 0, 5])])
def test_halves_are_rounded_as_requested_and_borders_repeated(rounding: Rounding, expected: list[int]) -> None:
    source = torch.arange(6.0).view(1, 1, 1, 6)
    motion = torch.zeros(1, 4, 1, 6)
    motion[0, 0, 0] = torch.tensor([-0.5, -0.5, 0.5, 0.25, -9.0, 9.0])
    references = torch.tensor([0, -1]).view(1, 2, 1, 1).expand(1, 2, 1, 6)
    assert warp({0: source}, motion, references, rounding).values[0, 0, 0].tolist() == expected


def test_cells_without_reference_are_zero() -> None:
    references = torch.full((1, 2, 3, 3), -1)
    references[0, 0, 1, 1] = 8
    found, used = warp({0: torch.ones(1, 2, 3, 3)}, torch.zeros(1, 4, 3, 3), references)
    assert not found.any()
    assert not used.any()


def test_no_channels_and_no_references() -> None:
    motion, references = fields(0)
    assert warp({0: torch.ones(2, 0, *SIZE)}, motion, references).values.shape == (2, 0, *SIZE)
    with pytest.raises(ValueError, match="no reference frames"):
        warp({}, motion, references)


def test_warping_twice_averages_averages() -> None:
    values = {0: torch.full((1, 1, 2, 2), 1.0), 4: torch.zeros(1, 1, 2, 2)}
    still = torch.zeros(1, 4, 2, 2)
    values[2] = warp(values, still, torch.tensor([0, 4]).view(1, 2, 1, 1).expand(1, 2, 2, 2)).values
    third = warp(values, still, torch.tensor([0, 2]).view(1, 2, 1, 1).expand(1, 2, 2, 2)).values
    assert (values[2] == 0.5).all()
    assert (third == 0.75).all()


def test_gradients_pass_through_a_warp() -> None:
    source = torch.rand(2, 3, *SIZE, requires_grad=True)
    motion, references = fields(0)
    warp({0: source}, motion, references).values.sum().backward()
    assert source.grad is not None
    assert source.grad.abs().sum() > 0
