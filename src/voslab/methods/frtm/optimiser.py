"""Gauss-Newton with preconditioned conjugate gradients, for models that are linear in each of their tensors.

A step solves (JᵀJ + λ²) Δ = -Jᵀf for the residuals f of all samples and the tensors θ, and adds Δ to θ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from voslab.core import State, state_dataclass

DECAY = 0.9
"""Base of the factor by which the last direction is forgotten before a run: DECAY to the power `forgetting`."""


class Problem(Protocol):
    """A sum of squared residuals, linearised at tensors θ."""

    def gradient(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Compute Jᵀf at θ, and set the point of linearisation."""
        ...

    def curvature(self, direction: Sequence[Tensor]) -> list[Tensor]:
        """Compute JᵀJ times a direction, at the point of the last `gradient`."""
        ...


@state_dataclass
class Direction(State):
    """What conjugate gradients carry from one run to the next.

    Attributes:
        search: last search direction.
        residual: residual before the last step.
        product: ⟨r, z⟩ of the last step, with the preconditioned residual z.
    """

    search: list[Tensor]
    residual: list[Tensor]
    product: Tensor


def minimise(
    problem: Problem,
    tensors: Sequence[Tensor],
    steps: Sequence[int],
    regularisation: Sequence[float],
    forgetting: float,
    last: Direction | None = None,
) -> tuple[list[Tensor], Direction | None]:
    """Run Gauss-Newton steps.

    Args:
        problem: the residuals, without the regularisation.
        tensors: θ.
        steps: number of steps of conjugate gradients in each step of Gauss-Newton.
        regularisation: λ of each tensor; also the diagonal of the preconditioner.
        forgetting: see `DECAY`.
        last: direction after earlier steps; None: there were none.

    Returns:
        the new tensors, and the direction for later steps.
    """
    result = list(tensors)
    for count in steps:
        pulls = zip(problem.gradient(result), result, regularisation, strict=True)
        residual = [-gradient - weight**2 * tensor for gradient, tensor, weight in pulls]
        if last is not None:
            last.product = last.product / DECAY**forgetting
        change, last = _conjugate_gradients(problem, residual, count, regularisation, last)
        result = [tensor + delta for tensor, delta in zip(result, change, strict=True)]
    return result, last


def _conjugate_gradients(
    problem: Problem, residual: list[Tensor], count: int, regularisation: Sequence[float], last: Direction | None
) -> tuple[list[Tensor], Direction | None]:
    """Solve for the change from zero, in `count` steps that begin with the last direction (Polak-Ribiere)."""
    change = [torch.zeros_like(tensor) for tensor in residual]
    for index in range(count):
        scaled = [tensor / weight for tensor, weight in zip(residual, regularisation, strict=True)]
        product = _dot(residual, scaled)
        search = scaled
        if last is not None:
            beta = _ratio(product - _dot(last.residual, scaled), last.product).clamp(min=0)
            search = [new + beta * old for new, old in zip(scaled, last.search, strict=True)]
        curved = [
            part + weight**2 * tensor
            for part, tensor, weight in zip(problem.curvature(search), search, regularisation, strict=True)
        ]
        alpha = _ratio(product, _dot(search, curved))
        change = [tensor + alpha * part for tensor, part in zip(change, search, strict=True)]
        last = Direction(search, residual, product)
        if index < count - 1:
            residual = [tensor - alpha * part for tensor, part in zip(residual, curved, strict=True)]
    return change, last


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide; 0 where the denominator is 0, as after a vanishing gradient."""
    return torch.where(denominator == 0, 0, numerator / denominator)
