"""The weighted squared error of upsampled scores, as a quadratic form on the grid of the features.

Shapes: K samples, h w cells of the features, H W pixels of the labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import State, state_dataclass

MIN_PIXELS = 10
"""Objects with fewer pixels count as absent."""


@state_dataclass
class Error(State):
    """The error |v ⊙ (U s - y)|² of scores s at stride 16: sᵀ A s - 2 bᵀ s + c, with A = Uᵀ V² U, b = Uᵀ V² y.

    U is bilinear interpolation, so a cell has products with its eight neighbours only. In this form a step of the
    optimiser does not depend on the number of pixels.

    Attributes:
        products: K 9 h w: A, from each cell to the 3x3 cells around it, row-major.
        linear: K h w: b.
        constant: K: c.
    """

    products: Tensor
    linear: Tensor
    constant: Tensor

    def multiply(self, scores: Tensor) -> Tensor:
        """Compute A s of scores K 1 h w."""
        around: Tensor = torch.unflatten(F.unfold(scores, 3, padding=1), 2, scores.shape[-2:])
        return (self.products * around).sum(1, keepdim=True)

    def gradient(self, scores: Tensor) -> Tensor:
        """Compute half the gradient of the error, A s - b, K 1 h w."""
        return self.multiply(scores) - self.linear.unsqueeze(1)

    def value(self, scores: Tensor) -> Tensor:
        """Compute the error of each sample, K."""
        terms = scores * (self.multiply(scores) - 2 * self.linear.unsqueeze(1))
        return terms.sum((1, 2, 3)) + self.constant

    def __getitem__(self, index: slice) -> Error:
        """Select samples."""
        return Error(self.products[index], self.linear[index], self.constant[index])


def error_of(labels: Tensor, size: tuple[int, int], weights: Tensor | None = None) -> Error:
    """Compute the error of samples.

    Args:
        labels: y, K H W, in [0, 1].
        size: h, w of the scores.
        weights: v², K H W; None for ones.

    Returns:
        the error, in the type of the labels.
    """
    rows, columns = (_interpolation(*each, labels) for each in zip(size, labels.shape[-2:], strict=True))
    weights = torch.ones_like(labels) if weights is None else weights
    up, left = _products(rows), _products(columns)
    products = torch.unflatten(up.flatten(0, 1) @ weights @ left.flatten(0, 1).mT, 1, up.shape[:2])
    products = torch.unflatten(products, 3, left.shape[:2]).transpose(2, 3).flatten(1, 2)
    weighted = weights * labels
    return Error(products, rows @ weighted @ columns.mT, (weighted * labels).sum((1, 2)))


def pixel_weights(labels: Tensor, share: float) -> Tensor:
    """Compute weights v² that give small objects a larger part of the error.

    With the object's share a of the pixels and t = max(a, share), object pixels weigh t/a, others (1 - t)/(1 - a).

    Args:
        labels: K H W; pixels above 0.5 belong to the object.
        share: share t of the error that a smaller object gets.

    Returns:
        K H W.

    Example:
        >>> labels = torch.zeros(1, 20, 20)
        >>> labels[:, :4, :5] = 1
        >>> pixel_weights(labels, 0.1).unique()
        tensor([0.9474, 2.0000])
    """
    inside = labels > 0.5
    count = inside.sum((1, 2), keepdim=True)
    part = count.to(labels.dtype) / inside[0].numel()
    part = torch.where(count < MIN_PIXELS, share, part)
    target = part.clamp(min=share)
    # Without a pixel outside, their weight does not matter.
    return torch.where(inside, target / part, (1 - target) / (1 - part).clamp(min=1e-6))


def _interpolation(cells: int, pixels: int, like: Tensor) -> Tensor:
    """Weights of bilinear interpolation along one side, cells x pixels."""
    eye = torch.eye(cells, dtype=like.dtype, device=like.device)
    return F.interpolate(eye.unsqueeze(0), pixels, mode="linear", align_corners=False)[0]


def _products(matrix: Tensor) -> Tensor:
    """Products of each cell's weights with those of the cell before, itself and the cell after: 3 cells pixels."""
    padded = F.pad(matrix, (0, 0, 1, 1))
    count = len(matrix)
    return torch.stack([matrix * padded[offset : offset + count] for offset in range(3)])
