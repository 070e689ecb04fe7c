"""SwiftNet's pixel-adaptive memory: retains the positions of a frame that are least similar to the memory.

Shapes as in `voslab.nn.memory`: keys B O N C, values B O N V, queries B Q C. All positions of the newest frame are read
until the next write. The selection of positions has no gradient; their keys and values have one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import State, state_dataclass
from voslab.nn.affinity import attend, query_chunk_size
from voslab.nn.export_compat import split_unless_exporting
from voslab.nn.memory import admit_given, write_positions
from voslab.nn.precision import at_least_float32


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules for which positions are retained.

    Attributes:
        ratio: ratio of the positions of a frame that are retained, the least similar ones, in (0, 1].
        bound: maximum number of retained positions per object in units of a frame, at least 2: the object's first frame
            and the newest updates; None: no maximum.
        previous: whether all positions of the newest frame are read.
        max_given: maximum number of frames per object on which masks were given, the first one included. All positions
            of these are retained, and `bound` does not count them.
    """

    ratio: float = 0.1
    bound: int | None = None
    previous: bool = True
    max_given: int = 8

    def update_size(self, frame_positions: int) -> int:
        """Number of retained positions per update."""
        return frame_positions - int(frame_positions * (1 - self.ratio))

    def max_updates(self, frame_positions: int) -> int | None:
        """Maximum number of updates; None: no maximum."""
        return None if self.bound is None else (self.bound - 1) * frame_positions // self.update_size(frame_positions)


@state_dataclass
class PixelBank(State):
    """The memory of the objects that appeared in the same frame.

    Attributes:
        objects: number of objects.
        keys: key buffer B O N C: the retained positions, then the newest frame.
        values: value buffer B O N V.
        frame_positions: number of positions of one frame.
        newest: number of positions of the newest frame in the buffer: 0 or `frame_positions`.
        due: whether positions of the newest frame will be retained, per clip.
        updates: number of updates ever made, per clip, including those that were overwritten.
        given: number of frames with given masks, whose positions are at the start of the buffers.
    """

    objects: int
    keys: Tensor | None = None
    values: Tensor | None = None
    frame_positions: int = 0
    newest: int = 0
    due: list[bool] | None = None
    updates: list[int] | None = None
    given: int = 1

    def num_retained(self, policy: Policy) -> list[int]:
        """Number of retained positions, per clip."""
        maximum = policy.max_updates(self.frame_positions)
        counts = [count if maximum is None else min(count, maximum) for count in self.updates or [0]]
        start = self.given * self.frame_positions
        return [start + count * policy.update_size(self.frame_positions) for count in counts]

    def write(self, key: Tensor, value: Tensor, due: list[bool], policy: Policy) -> PixelBank:
        """Write a frame. All positions of an object's first frame are retained."""
        if self.keys is None or self.values is None:
            keys, values = key.contiguous(), value.contiguous()
            return PixelBank(self.objects, keys, values, key.shape[2], updates=[0] * len(due))
        committed = self.commit(policy)
        start = max(committed.num_retained(policy))
        capacity = (
            start
            + self.frame_positions
            + (start // 2 if policy.bound is None else min(start // 2, policy.bound * self.frame_positions - start))
        )
        keys, values = (
            write_positions(committed.keys, key, start, capacity),
            write_positions(committed.values, value, start, capacity),
        )
        written = replace(committed, keys=keys, values=values, newest=self.frame_positions, due=due)
        return written if policy.previous else written.commit(policy)

    def insert(self, key: Tensor, value: Tensor, policy: Policy) -> PixelBank:
        """Write a frame with given masks; the oldest such frame except the first is dropped if there are too many."""
        if self.keys is None or self.values is None:
            return self.write(key, value, [True] * len(key), policy)
        bank, size = self.commit(policy), self.frame_positions
        assert bank.keys is not None, "the memory is not empty"
        assert bank.values is not None, "the memory is not empty"
        dropped = int(self.given == policy.max_given)
        start, end = self.given * size, max(bank.num_retained(policy))
        keys, values = (
            torch.cat([x[:, :, :size], x[:, :, (1 + dropped) * size : start], new, x[:, :, start:end]], 2)
            for x, new in ((bank.keys, key), (bank.values, value))
        )
        return replace(bank, keys=keys, values=values, due=None, given=self.given + 1 - dropped)

    def commit(self, policy: Policy) -> PixelBank:
        """Retain the selected positions of the newest frame and drop the others."""
        if self.newest == 0 or self.due is None or not any(self.due):
            return replace(self, newest=0)
        assert self.keys is not None, "nothing was written"
        assert self.values is not None, "nothing was written"
        assert self.updates is not None, "nothing was written"
        end = max(self.num_retained(policy))
        key, value = (x[:, :, end : end + self.frame_positions] for x in (self.keys, self.values))
        index = least_similar(max_cosine(key, self.keys[:, :, :end], self._readable_mask(policy, end)), policy.ratio)
        # Clips that retain nothing write to the positions of the newest frame, which are no longer read.
        maximum = policy.max_updates(self.frame_positions)
        starts = [
            self.given * self.frame_positions + (count if maximum is None else count % maximum) * index.shape[2]
            if due
            else end
            for count, due in zip(self.updates, self.due, strict=True)
        ]
        keys, values = (
            _scatter_positions(x, _gather_positions(new, index), starts)
            for x, new in ((self.keys, key), (self.values, value))
        )
        updates = [count + due for count, due in zip(self.updates, self.due, strict=True)]
        return replace(self, keys=keys, values=values, newest=0, updates=updates)

    def read(self, query: Tensor, policy: Policy) -> Tensor:
        """Read the memory. See `attend`."""
        assert self.keys is not None, "nothing was written"
        assert self.values is not None, "nothing was written"
        end = self.num_readable(policy)
        readable = self._readable_mask(policy, end)
        return attend(query, self.keys[:, :, :end], self.values[:, :, :end], readable=readable)

    def num_readable(self, policy: Policy) -> int:
        """Number of positions that are read, maximum over clips."""
        return max(self.num_retained(policy)) + self.newest

    def repeat(self, frames: int, policy: Policy) -> PixelBank:
        """Return a bank as large as after `frames` updates, filled with copies of the first frame, for benchmarks."""
        if self.keys is None or self.values is None or self.updates is None:
            return self
        made = replace(self, newest=0, updates=[frames - 1] * len(self.updates))
        index = torch.arange(made.num_readable(policy), device=self.keys.device) % self.frame_positions
        return replace(made, keys=self.keys[:, :, index], values=self.values[:, :, index])

    def _readable_mask(self, policy: Policy, end: int) -> Tensor | None:
        """Mask of the first `end` positions that each clip reads, B end; None: all."""
        assert self.keys is not None, "nothing was written"
        counts = self.num_retained(policy)
        if len(set(counts)) == 1:
            return None
        columns = torch.arange(end, device=self.keys.device)
        return (columns < torch.tensor(counts, device=self.keys.device).unsqueeze(1)) | (columns >= max(counts))


@state_dataclass
class PixelMemory(State):
    """Keys and values of selected positions, selected per object (SwiftNet's pixel-adaptive memory).

    Attributes:
        banks: one per frame in which objects appeared. An object reads no frame before its first one.
        policy: rules for which positions are retained.

    Example:
        >>> memory = PixelMemory([], Policy(ratio=0.25)).extend(2)
        >>> for _ in range(3):
        ...     memory = memory.write(torch.randn(1, 2, 12, 8), torch.randn(1, 2, 12, 4), due=[True])
        >>> memory.num_readable
        [27]
    """

    banks: list[PixelBank]
    policy: Policy

    @property
    def num_readable(self) -> list[int]:
        """Number of positions that are read, per bank."""
        return [bank.num_readable(self.policy) for bank in self.banks]

    def needs_write(self, due: list[bool]) -> bool:
        """Whether `write` changes the memory."""
        return any(due) or self.policy.previous or any(bank.keys is None for bank in self.banks)

    def write(self, key: Tensor, value: Tensor, due: list[bool], given: bool = False) -> PixelMemory:
        """Write a frame. The next write drops it except for the retained positions.

        Args:
            key: B O N C.
            value: B O N V.
            due: whether positions of the frame will be retained, per clip.
            given: whether masks of known objects are given on the frame; then all of its positions are retained.
        """
        given = admit_given(given, (bank.given for bank in self.banks), self.policy.max_given)
        counts = [bank.objects for bank in self.banks]
        parts = zip(self.banks, torch.split(key, counts, 1), torch.split(value, counts, 1), strict=True)
        if given:
            return replace(self, banks=[bank.insert(k, v, self.policy) for bank, k, v in parts])
        return replace(self, banks=[bank.write(k, v, due, self.policy) for bank, k, v in parts])

    def read(self, query: Tensor) -> Tensor:
        """Read all banks. See `attend`."""
        return torch.cat([bank.read(query, self.policy) for bank in self.banks], 1)

    def extend(self, objects: int) -> PixelMemory:
        """Add objects whose first frame is the next one that is written."""
        return replace(self, banks=[*self.banks, PixelBank(objects)]) if objects else self

    def repeat(self, frames: int) -> PixelMemory:
        """Return a memory as large as after `frames` updates, filled with copies of the first frame, for benchmarks."""
        return replace(self, banks=[bank.repeat(frames, self.policy) for bank in self.banks])


@torch.no_grad()
def max_cosine(key: Tensor, memory: Tensor, readable: Tensor | None = None) -> Tensor:
    """Compute the largest cosine similarity of each position with a memory.

    Args:
        key: B O N C.
        memory: B O M C.
        readable: B M, True at memory positions that are compared; None: all.

    Returns:
        similarity B O N, float32.

    Example:
        >>> key = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).view(1, 1, 2, 2)
        >>> max_cosine(key, key[:, :, :1]).flatten()
        tensor([1., 0.])
    """
    with torch.autocast(key.device.type, enabled=False):
        new = F.normalize(at_least_float32(key), dim=-1)
        old = F.normalize(at_least_float32(memory), dim=-1).transpose(2, 3)
        parts = []
        for chunk in split_unless_exporting(new, 2, lambda: query_chunk_size(memory)):
            scores = chunk @ old
            parts.append((scores if readable is None else scores.masked_fill(~readable[:, None, None], -2)).amax(-1))
        return torch.cat(parts, 2)


def least_similar(similarity: Tensor, ratio: float) -> Tensor:
    """Select the positions with the lowest similarities.

    Args:
        similarity: B O N.
        ratio: ratio of the positions to select.

    Returns:
        int64 indices B O n, in ascending order.

    Example:
        >>> least_similar(torch.tensor([[[0.9, 0.1, 0.5, 0.3]]]), 0.5).flatten()
        tensor([1, 3])
    """
    frame_positions = similarity.shape[-1]
    order = torch.argsort(similarity, dim=-1, descending=True, stable=True)
    return order[..., int(frame_positions * (1 - ratio)) :].sort(-1).values


def _gather_positions(x: Tensor, index: Tensor) -> Tensor:
    """Gather positions B O n from B O N C: B O n C."""
    return x.gather(2, index.unsqueeze(-1).expand(-1, -1, -1, x.shape[-1]))


def _scatter_positions(buffer: Tensor, new: Tensor, starts: list[int]) -> Tensor:
    """Overwrite the positions of a buffer B O S C from `starts[b]` on with new B O n C."""
    if len(set(starts)) == 1:
        return write_positions(buffer, new, starts[0], buffer.shape[2])
    columns = torch.tensor(starts, device=buffer.device).unsqueeze(1) + torch.arange(new.shape[2], device=buffer.device)
    return buffer.scatter(2, columns[:, None, :, None].expand_as(new), new)
