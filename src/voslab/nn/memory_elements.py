"""Elements of XMem's memories: keys and counters that objects share, and the values of each object (section 3.2).

Shapes: N positions, C key channels, V value channels. All tensors are those of one clip. They have two leading axes,
1 1 for what objects share and 1 O for values.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from voslab.core import State, state_dataclass
from voslab.nn.memory import write_positions

UNREAD = 1e-7
"""Life of an element that no query has read, which avoids a division by zero."""


@state_dataclass
class Elements(State):
    """Keys and counters of memory elements, which all objects share.

    Attributes:
        keys: buffer 1 1 N C; the first `size` elements of it are in use.
        shrinkage: buffer 1 1 N 1.
        selection: buffer 1 1 N C.
        usage: buffer 1 1 N 2: the sum of the affinities with which an element was read, and the number of reads.
        size: number of elements.
    """

    keys: Tensor
    shrinkage: Tensor
    selection: Tensor
    usage: Tensor
    size: int

    @classmethod
    def new(cls, keys: Tensor, shrinkage: Tensor, selection: Tensor) -> Elements:
        """Return elements that were not read yet."""
        usage = torch.zeros_like(shrinkage, dtype=torch.float32).repeat(1, 1, 1, 2)
        usage[..., 1] = UNREAD
        return cls(keys, shrinkage, selection, usage, keys.shape[2])

    def append(self, new: Elements, capacity: int) -> Elements:
        """Append elements; a buffer that is too short is replaced by one for `capacity` elements."""
        pairs = zip(self.buffers(), new.buffers(), strict=True)
        keys, shrinkage, selection, usage = (write_positions(old, x, self.size, capacity) for old, x in pairs)
        return Elements(keys, shrinkage, selection, usage, self.size + new.size)

    def buffers(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the buffers."""
        return self.keys, self.shrinkage, self.selection, self.usage

    def reorder(self, order: Tensor, size: int) -> Elements:
        """Permute the buffers, of which the first `size` elements are then in use."""
        keys, shrinkage, selection, usage = (x.index_select(2, order) for x in self.buffers())
        return Elements(keys, shrinkage, selection, usage, size)

    def slice(self, start: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys, shrinkage and selection of some elements."""
        return self.keys[:, :, start:end], self.shrinkage[:, :, start:end], self.selection[:, :, start:end]

    def mean_usage(self) -> Tensor:
        """Return the mean affinity per read, N."""
        use, life = self.usage[0, 0, : self.size].unbind(1)
        return use / life

    def count(self, affinity: Tensor) -> Elements:
        """Count a read with the sum of its affinities per element, N."""
        usage = self.usage.clone()
        usage[0, 0, : self.size] += torch.stack([affinity, torch.ones_like(affinity)], 1)
        return replace(self, usage=usage)


@state_dataclass
class Group(State):
    """Values of the objects that appeared in the same frame. They have none for elements from before.

    Attributes:
        objects: number of objects.
        first: index of their first frame in the working memory.
        working: buffer 1 O N V, aligned with the keys of the working memory.
        frames: whether they have values, per frame of the working memory.
        long: buffer 1 O M V, aligned with the keys of the long-term memory.
        elements: whether they have values, buffer 1 1 M 1, per element of the long-term memory; None: for all.
    """

    objects: int
    first: int = 0
    working: Tensor | None = None
    frames: list[bool] | None = None
    long: Tensor | None = None
    elements: Tensor | None = None

    def write(self, value: Tensor, frame: int, capacity: int, elements: int) -> Group:
        """Write the values 1 O N V of a new last frame `frame`; there is a buffer for `elements` prototypes."""
        size = value.shape[2]
        if self.working is None or self.frames is None:
            working, long = (value.new_zeros(*value.shape[:2], n, value.shape[3]) for n in (frame * size, elements))
            fresh = replace(self, working=working, frames=[False] * frame, first=frame)
            if frame:
                none = torch.zeros(1, 1, elements, 1, dtype=torch.bool, device=value.device)
                fresh = replace(fresh, long=long if elements else None, elements=none)
            return fresh.write(value, frame, capacity, elements)
        working = write_positions(self.working, value, frame * size, capacity * size)
        return replace(self, working=working, frames=[*self.frames, True])

    def retain(self, kept: list[int], size: int) -> Group:
        """Keep some frames of `size` positions. Values of the first frame stay, if need be with the keys of frame 0."""
        assert self.working is not None, "nothing was written"
        assert self.frames is not None, "nothing was written"
        own = kept if self.first in kept else [self.first, *kept[1:]]
        working = self.working.index_select(2, frame_order(own, self.working, size))
        return replace(self, working=working, frames=[self.frames[i] for i in own], first=own.index(self.first))

    def values(self, elements: int, positions: int) -> list[Tensor]:
        """Return the values of the first elements of the long-term and the first positions of the working memory."""
        assert self.working is not None, "nothing was written"
        long = [] if not elements or self.long is None else [self.long[:, :, :elements]]
        return [*long, self.working[:, :, :positions]]

    def mask(self, elements: int, size: int) -> Tensor | None:
        """Mask of the long-term and working positions that have values; None: all."""
        assert self.working is not None, "nothing was written"
        assert self.frames is not None, "nothing was written"
        if all(self.frames) and (self.elements is None or not elements):
            return None
        working = torch.tensor(self.frames, device=self.working.device).repeat_interleave(size)
        if self.elements is None or not elements:
            return torch.cat([working.new_ones(elements), working])
        return torch.cat([self.elements[0, 0, :elements, 0], working])

    def potentiate(self, similarity: Tensor, chosen: Tensor, start: int, size: int) -> tuple[Tensor, Tensor]:
        """Compute the values of prototypes: what the candidates hold, read with the prototypes as queries.

        Args:
            similarity: P N, of each prototype with all candidates.
            chosen: P, the candidates that are prototypes.
            start: first frame of the candidates.
            size: positions of a frame.

        Returns:
            values 1 O P V, and whether the objects have them, 1 1 P 1.
        """
        assert self.working is not None, "nothing was written"
        assert self.frames is not None, "nothing was written"
        count = similarity.shape[1] // size
        known = [self.frames[i] and i != self.first for i in range(start, start + count)]
        valid = torch.tensor(known, device=similarity.device).repeat_interleave(size)
        values = self.working[:, :, start * size : (start + count) * size]
        if all(known):
            affinity = similarity.softmax(-1)
        else:
            affinity = similarity.masked_fill(~valid, -torch.inf).softmax(-1).nan_to_num(0)
            affinity = affinity * valid[chosen].unsqueeze(1)
        return affinity.to(values.dtype) @ values, valid[chosen].view(1, 1, -1, 1)

    def append(self, value: Tensor, known: Tensor, elements: int, capacity: int) -> Group:
        """Append prototype values 1 O P V, and whether the objects have them, 1 1 P 1, after `elements` others."""
        if self.long is None:
            return replace(self, long=value, elements=None if self.elements is None else known)
        mask = None if self.elements is None else write_positions(self.elements, known, elements, capacity)
        return replace(self, long=write_positions(self.long, value, elements, capacity), elements=mask)

    def reorder(self, order: Tensor) -> Group:
        """Permute the elements of the long-term memory."""
        if self.long is None:
            return self
        mask = None if self.elements is None else self.elements.index_select(2, order)
        return replace(self, long=self.long.index_select(2, order), elements=mask)


def frame_order(kept: list[int], buffer: Tensor, size: int) -> Tensor:
    """Return the order of the positions of a buffer that puts some frames first.

    Args:
        kept: indices of these frames.
        buffer: 1 O N V.
        size: positions of a frame.

    Returns:
        all positions, N.

    Example:
        >>> frame_order([0, 2], torch.zeros(1, 1, 6, 1), size=2)
        tensor([0, 1, 4, 5, 2, 3])
    """
    rest = sorted(set(range(buffer.shape[2] // size)) - set(kept))
    frames = torch.tensor([*kept, *rest], device=buffer.device)
    return (frames.unsqueeze(1) * size + torch.arange(size, device=buffer.device)).flatten()
