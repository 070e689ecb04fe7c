"""Cutie's pixel memory: one memory per bucket, which holds the objects that appeared in the same frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from voslab.core import State, state_dataclass
from voslab.nn.long_term_memory import LongTermMemory, LongTermPolicy


@state_dataclass
class BucketMemory(State):
    """Memories of objects that appeared in different frames. Each has keys, a softmax and prototypes of its own.

    Attributes:
        clips: B.
        policy: rules for what stays.
        buckets: one memory per frame in which objects appeared.
        counts: number of objects in each.

    Example:
        >>> memory = BucketMemory.empty(1, LongTermPolicy(enabled=False)).extend(2)
        >>> memory = memory.write(torch.randn(1, 12, 8), torch.ones(1, 12, 1), torch.ones(1, 12, 8),
        ...     torch.randn(1, 2, 12, 5))
        >>> memory.read(torch.randn(1, 7, 8), torch.rand(1, 7, 8), top_k=5)[0].shape
        torch.Size([1, 2, 7, 5])
    """

    clips: int
    policy: LongTermPolicy
    buckets: list[LongTermMemory]
    counts: list[int]

    @classmethod
    def empty(cls, clips: int, policy: LongTermPolicy) -> BucketMemory:
        """Return a memory without objects."""
        return cls(clips, policy, [], [])

    def extend(self, objects: int) -> BucketMemory:
        """Add objects whose first frame is the next one that is written."""
        if not objects:
            return self
        bucket = LongTermMemory.empty(self.clips, self.policy).extend(objects)
        return replace(self, buckets=[*self.buckets, bucket], counts=[*self.counts, objects])

    def write(
        self, keys: Tensor, shrinkage: Tensor, selection: Tensor, values: Tensor, given: bool = False
    ) -> BucketMemory:
        """Write a frame with keys B N C and values B O N V to all buckets; see `LongTermMemory.write`."""
        parts = zip(self.buckets, torch.split(values, self.counts, 1), strict=True)
        return replace(self, buckets=[each.write(keys, shrinkage, selection, value, given) for each, value in parts])

    def read(self, query: Tensor, selection: Tensor, top_k: int | None) -> tuple[Tensor, BucketMemory]:
        """Read all buckets by queries B Q C: readouts B O Q V, and the memory with its use."""
        readouts, buckets = zip(*(each.read(query, selection, top_k) for each in self.buckets), strict=True)
        return torch.cat(readouts, 1), replace(self, buckets=list(buckets))

    def read_random_frames(self, query: Tensor, selection: Tensor, frames: int) -> Tensor:
        """Read random frames, at most `frames` in total, as in training: readouts B O Q V."""
        readouts = [each.read_random_frames(query, selection, frames, first=False) for each in self.buckets]
        return torch.cat(readouts, 1)

    def interact(self, function: Callable[..., tuple[Tensor, ...]], *objects: Tensor) -> tuple[Tensor, ...]:
        """Apply a function in which objects interact to the objects of each bucket, and join the results.

        Args:
            function: maps tensors B O … to several tensors B O ….
            objects: tensors B O …, of all objects.
        """
        parts = zip(*(torch.split(each, self.counts, 1) for each in objects), strict=True)
        joined = zip(*(function(*part) for part in parts), strict=True)
        return tuple(outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1) for outputs in joined)

    def repeat(self, frames: int) -> BucketMemory:
        """Return a memory as large as after `frames` copies of the first frame, for benchmarks."""
        return replace(self, buckets=[each.repeat(frames) for each in self.buckets])
