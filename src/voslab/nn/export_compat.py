"""What is done otherwise where a graph is exported, as its sizes are not known before it runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def exporting() -> bool:
    """Whether a graph is being exported; torch 2.6 does not tell."""
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()


def in_parts(x: Tensor, dim: int, size: Callable[[], int]) -> tuple[Tensor, ...]:
    """Split along an axis into parts of `size()`, which is not asked where a graph is being exported."""
    return (x,) if exporting() else torch.split(x, size(), dim)


def coord_range(count: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """So many coordinates from -1 to 1; exporters cannot do `linspace` of a size that they do not know."""
    if not exporting():
        return torch.linspace(-1, 1, count, device=device, dtype=dtype)
    steps = torch.arange(count, device=device, dtype=dtype)
    return steps * 2 / steps[-1].clamp(min=1) - 1
