"""Replaces operations that cannot be exported while their sizes are unknown."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def exporting() -> bool:
    """Return whether `torch.export` is tracing; always False before torch 2.7, which cannot report it."""
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()


def split_unless_exporting(x: Tensor, dim: int, size: Callable[[], int]) -> tuple[Tensor, ...]:
    """Split a tensor along an axis, or return it whole during an export.

    Args:
        x: the tensor.
        dim: axis to split.
        size: returns the size of a part; it is not called during an export.

    Returns:
        The parts, in order.

    Example:
        >>> [part.tolist() for part in split_unless_exporting(torch.arange(5), 0, lambda: 2)]
        [[0, 1], [2, 3], [4]]
    """
    return (x,) if exporting() else torch.split(x, size(), dim)


def coord_range(count: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return evenly spaced coordinates from -1 to 1; exporters do not support `linspace` of an unknown size.

    Args:
        count: number of coordinates.
        device: device of the result.
        dtype: type of the result.

    Returns:
        Coordinates, shape (count,).

    Example:
        >>> coord_range(3, torch.device("cpu")).tolist()
        [-1.0, 0.0, 1.0]
    """
    if not exporting():
        return torch.linspace(-1, 1, count, device=device, dtype=dtype)
    steps = torch.arange(count, device=device, dtype=dtype)
    return steps * 2 / steps[-1].clamp(min=1) - 1
