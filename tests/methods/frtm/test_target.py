"""The fit of a target model, against the error at the size of the labels and derivatives by autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.methods.frtm.least_squares import error_of, pixel_weights
from voslab.methods.frtm.optimiser import Direction, minimise
from voslab.methods.frtm.target import Both, FilterOnly

SIZES = [((4, 6), (60, 90)), ((5, 7), (33, 111)), ((1, 3), (7, 45)), ((2, 2), (2, 2))]


def case(cells: tuple[int, int], pixels: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    shapes = ((3, 5, *cells), (3, *pixels), (3, *pixels))
    features, labels, weights = (torch.rand(shape, generator=rng, dtype=torch.float64) for shape in shapes)
    return features - 0.5, labels, weights


@pytest.mark.parametrize(("cells", "pixels"), SIZES)
def test_the_quadratic_form_is_the_error_of_upsampled_scores(cells: tuple[int, int], pixels: tuple[int, int]) -> None:
    features, labels, weights = case(cells, pixels)
    scores = features[:, :1]
    upsampled = F.interpolate(scores, pixels, mode="bilinear", align_corners=False)[:, 0]
    error = error_of(labels, cells, weights)
    expected = (weights * (upsampled - labels).square()).sum((1, 2))
    torch.testing.assert_close(error.value(scores), expected)
    point = scores.clone().requires_grad_()
    [slope] = torch.autograd.grad(error.value(point).sum(), point)
    torch.testing.assert_close(error.gradient(scores), slope / 2)


def residuals(tensors: tuple[Tensor, ...], features: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    for tensor in tensors:
        features = F.conv2d(features, tensor, padding=tensor.shape[-1] // 2)
    upsampled = F.interpolate(features, labels.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return weights.sqrt() * (upsampled - labels) * (torch.arange(1, 4).double() / 6).sqrt().view(-1, 1, 1)


@pytest.mark.parametrize("count", [1, 2])
def test_gradient_and_curvature_are_those_of_autograd(count: int) -> None:
    features, labels, weights = case((4, 6), (60, 90))
    rng = torch.Generator().manual_seed(1)
    project = torch.rand(2, 5, 1, 1, generator=rng, dtype=torch.float64)
    kernel = torch.rand(1, 2, 3, 3, generator=rng, dtype=torch.float64)
    inputs, tensors = (features, (project, kernel)) if count == 2 else (F.conv2d(features, project), (kernel,))
    problem = (Both if count == 2 else FilterOnly)(
        inputs, error_of(labels, (4, 6), weights), torch.arange(1.0, 4).double() / 6
    )
    direction = tuple(torch.rand(x.shape, generator=rng, dtype=torch.float64) for x in tensors)

    def function(*x: Tensor) -> Tensor:
        return residuals(x, inputs, labels, weights)

    value, pushed = torch.autograd.functional.jvp(function, tensors, direction)
    for ours, residual in ((problem.gradient(tensors), value), (problem.curvature(direction), pushed)):
        _, expected = torch.autograd.functional.vjp(function, tensors, residual)
        for one, other in zip(ours, expected, strict=True):
            torch.testing.assert_close(one, other)


def test_conjugate_gradients_solve_a_linear_problem() -> None:
    """A filter of 18 numbers needs at most 18 steps."""
    features, labels, _ = case((4, 6), (60, 90))
    problem = FilterOnly(features[:, :2], error_of(labels, (4, 6)), torch.ones(3, dtype=torch.float64))
    [kernel], _ = minimise(problem, [torch.zeros(1, 2, 3, 3, dtype=torch.float64)], [60], [0.1], 750)
    [slope] = problem.gradient([kernel])
    assert (slope + 0.01 * kernel).abs().max() < 1e-6


def test_nothing_to_explain_gives_no_numbers_that_are_not_finite() -> None:
    """Without features, the direction of the first run is zero, and the next run begins with it."""
    problem = FilterOnly(torch.zeros(1, 2, 3, 3), error_of(torch.zeros(1, 6, 6), (3, 3)), torch.ones(1))
    last: Direction | None = None
    for _ in range(2):
        [kernel], last = minimise(problem, [torch.zeros(1, 2, 3, 3)], [2, 2], [0.01], 750, last)
    assert not kernel.any()


@pytest.mark.parametrize(("count", "share"), [(0, 0.0), (5, 5 / 400), (20, 0.1), (200, 0.5), (400, 1.0)])
def test_small_objects_weigh_as_much_as_a_tenth_of_the_image(count: int, share: float) -> None:
    labels = torch.zeros(1, 400)
    labels[:, :count] = 1
    labels = labels.view(1, 20, 20)
    weights = pixel_weights(labels, 0.1)
    assert torch.isfinite(weights).all()
    assert float((weights * labels).sum() / 400) == pytest.approx(share)


def test_forgetting_decides_how_much_of_the_last_direction_is_left() -> None:
    features, labels, weights = case((4, 6), (60, 90))
    problem = FilterOnly(features[:, :2], error_of(labels, (4, 6), weights), torch.ones(3, dtype=torch.float64))
    start = [torch.zeros(1, 2, 3, 3, dtype=torch.float64)]
    results = [minimise(problem, start, [2, 2], [0.1], forgetting)[0][0] for forgetting in (0, 75, 750)]
    assert not torch.allclose(results[0], results[2], rtol=1e-6)
    torch.testing.assert_close(results[1], results[2], rtol=1e-2, atol=1e-3)
