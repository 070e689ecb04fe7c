"""Raises half precision to float32 where its range or digits do not suffice."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half precision to float32; float32 and float64 are unchanged.

    Args:
        tensor: any shape.

    Returns:
        the tensor, float32 or float64.

    Example:
        >>> [at_least_float32(torch.zeros(1, dtype=dtype)).dtype for dtype in (torch.bfloat16, torch.float64)]
        [torch.float32, torch.float64]
    """
    return tensor if tensor.dtype == torch.float64 else tensor.float()
