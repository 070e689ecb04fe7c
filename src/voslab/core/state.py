"""Base class of the states of methods: typed dataclasses that are also pytrees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar, dataclass_transform

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from voslab.core.types import Masks

C = TypeVar("C", bound=type)


class State:
    """Base class of states; subclasses use the `state_dataclass` decorator and hold tensors, numbers and pytrees.

    A state passed to `step` or `add` is consumed: without gradients its storage may be reused in place.
    """

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        def apply(leaf: Any) -> Any:
            return function(leaf) if isinstance(leaf, Tensor) else leaf

        mapped: Self = pytree.tree_map(apply, self)
        return mapped

    def clone(self) -> Self:
        """Copy all tensors, so that the copy and the original can be used independently."""
        return self._map(torch.Tensor.clone)

    def detach(self) -> Self:
        """Detach all tensors, which truncates back-propagation."""
        return self._map(torch.Tensor.detach)

    def to(self, device: torch.device | str) -> Self:
        """Move all tensors to a device."""
        return self._map(lambda tensor: tensor.to(device))

    def nbytes(self) -> int:
        """Return the size of all tensors in bytes. Storage that several tensors or views share counts once."""
        storages = [leaf.untyped_storage() for leaf in pytree.tree_leaves(self) if isinstance(leaf, Tensor)]
        return sum({(storage.device, storage.data_ptr()): storage.nbytes() for storage in storages}.values())


@dataclass_transform()
def state_dataclass(cls: C) -> C:
    """Make a `State` subclass a dataclass and register it as a pytree."""
    dataclass(cls)
    pytree.register_dataclass(cls)
    return cls


pytree.register_dataclass(Masks)
