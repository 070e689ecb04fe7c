"""Builds networks without memory for their parameters, to learn the parameters' shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def without_memory() -> Iterator[None]:
    """Create tensors on the meta device inside the block, where they have shapes but no values.

    Example:
        >>> with without_memory():
        ...     layer = torch.nn.Linear(10**6, 10**6)
        >>> layer.weight.shape, layer.weight.is_meta
        (torch.Size([1000000, 1000000]), True)
    """
    with torch.device("meta"), _WithoutValues():
        yield


class _WithoutValues(TorchFunctionMode):
    """Skips what only changes values; on the meta device, random initialisation would import the compiler of torch."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = function.__name__, kwargs or {}
        in_place = name.endswith("_") and not name.endswith("__")
        if getattr(function, "__module__", "") == "torch.nn.init" or in_place or name == "__setitem__":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)
