"""GAM's global memory: one matrix per object, whatever the number of frames.

Shapes as in `voslab.nn.memory`: keys B G N C (G = O, or 1 if all objects share them), values B O N V, queries B Q C.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from voslab.core import State, state_dataclass
from voslab.nn.precision import at_least_float32

KeyNorm = Literal["softmax", "mean", "none"]
QueryNorm = Literal["softmax", "scale", "none"]


@state_dataclass
class GlobalMemory(State):
    """One C x V matrix per object, independent of the number of frames (GAM, section 3.2.3).

    Attributes:
        context: G of Eq. 2, B O C V, float32.
        frames: T of Eq. 2, number of frames written, per object.

    Example:
        >>> memory = GlobalMemory.empty(batch=1, objects=2, key=8, value=4, device=torch.device("cpu"))
        >>> memory = memory.write(torch.randn(1, 1, 12, 8), torch.randn(1, 2, 12, 4))
        >>> memory.read(torch.randn(1, 6, 8)).shape, memory.frames
        (torch.Size([1, 2, 6, 4]), [1, 1])
    """

    context: Tensor
    frames: list[int]

    @classmethod
    def empty(cls, batch: int, objects: int, key: int, value: int, device: torch.device) -> GlobalMemory:
        """Return an empty memory for keys with `key` channels and values with `value` channels."""
        return cls(torch.zeros(batch, objects, key, value, device=device), [0] * objects)

    def needs_write(self, retain: bool) -> bool:
        """Whether `write` changes the memory. The first frame of an object is always written."""
        return retain or 0 in self.frames

    def write(self, key: Tensor, value: Tensor, retain: bool = True) -> GlobalMemory:
        """Update the running mean (Eq. 2) with A = keyᵀ · value (Eq. 1). `normalise_key` has normalised the key."""
        due = [retain or not count for count in self.frames]
        rates = [added / (count + 1) for added, count in zip(due, self.frames, strict=True)]
        with torch.autocast(key.device.type, enabled=False):
            new = at_least_float32(key).transpose(2, 3) @ at_least_float32(value)
            context = self.context + (new - self.context) * new.new_tensor(rates).view(1, -1, 1, 1)
        return GlobalMemory(context, [count + added for added, count in zip(due, self.frames, strict=True)])

    def read(self, query: Tensor) -> Tensor:
        """Compute D = query · G (Eq. 3), float32. `normalise_query` has normalised the query."""
        with torch.autocast(query.device.type, enabled=False):
            return at_least_float32(query).unsqueeze(1) @ self.context

    def extend(self, objects: int) -> GlobalMemory:
        """Add objects whose first frame is the next one that is written."""
        batch, _, key, value = self.context.shape
        new = GlobalMemory.empty(batch, objects, key, value, self.context.device)
        return GlobalMemory(torch.cat([self.context, new.context], 1), self.frames + new.frames)

    def repeat(self, frames: int) -> GlobalMemory:
        """Return the same memory as if `frames` frames had been written, for benchmarks."""
        return replace(self, frames=[frames] * len(self.frames))


def normalise_key(key: Tensor, norm: KeyNorm) -> Tensor:
    """Normalise memory keys over positions.

    Args:
        key: … N C.
        norm: `softmax` over positions, `mean` divides by N, `none` changes nothing.

    Returns:
        float32 keys … N C.

    Example:
        >>> normalise_key(torch.zeros(4, 2), "softmax")[0]
        tensor([0.2500, 0.2500])
    """
    key = at_least_float32(key)
    if norm == "softmax":
        return key.softmax(-2)
    return key / key.shape[-2] if norm == "mean" else key


def normalise_query(query: Tensor, norm: QueryNorm) -> Tensor:
    """Normalise queries over channels.

    Args:
        query: … Q C.
        norm: `softmax` over channels, `scale` divides by √C, `none` changes nothing.

    Returns:
        float32 queries … Q C.

    Example:
        >>> normalise_query(torch.ones(1, 4), "scale")
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    query = at_least_float32(query)
    if norm == "softmax":
        return query.softmax(-1)
    return query * query.shape[-1] ** -0.5 if norm == "scale" else query
