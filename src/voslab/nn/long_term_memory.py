"""Working and long-term memory of XMem and Cutie: whole frames, and prototypes of older ones (XMem, section 3.2).

Shapes: B clips, O objects, N positions of a frame, C key channels, V value channels, Q query positions. `write`
consumes the memory, see `voslab.nn.memory`. Clips are independent: each has counters and prototypes of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import State, state_dataclass
from voslab.nn.affinity import attend, query_chunk_size
from voslab.nn.anisotropic import affinities, expand_keys, expand_query, read_values
from voslab.nn.memory import admit_given
from voslab.nn.memory_elements import Elements, Group, frame_order


@dataclass(frozen=True, slots=True)
class LongTermPolicy:
    """Rules for what stays in the memory.

    Attributes:
        enabled: whether frames become prototypes; otherwise the working memory holds whole frames only.
        max_frames: number of frames in the working memory at which the older ones become prototypes.
        min_frames: number of frames that then stay: the first one and the newest others.
        prototypes: number of prototypes that replace the older frames.
        max_elements: maximum number of prototypes.
        max_given: maximum number of frames with given masks, the first one included. They never become prototypes, and
            `max_frames` counts the first of them only.
        bound: maximum number of frames in the working memory if not `enabled`, counted like `max_frames`; the oldest
            one without given masks is dropped first. None: it grows without bound.
        spare: number of prototypes that are dropped beyond what the new ones need (Cutie); None: those that are used as
            little as the last one that must go are dropped too (XMem).

    Raises:
        ValueError: if the numbers contradict each other.
    """

    enabled: bool = True
    max_frames: int = 10
    min_frames: int = 5
    prototypes: int = 128
    max_elements: int = 10000
    max_given: int = 8
    bound: int | None = None
    spare: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.min_frames < self.max_frames or not 1 <= self.prototypes < self.max_elements:
            raise ValueError(f"{self}: needs 1 <= min_frames < max_frames and 1 <= prototypes < max_elements")
        if self.max_given < 1:
            raise ValueError(f"{self}: needs max_given >= 1")
        if self.spare is not None and not 0 <= self.spare <= self.max_elements - self.prototypes:
            raise ValueError(f"{self}: needs 0 <= spare <= max_elements - prototypes")

    @property
    def capacity(self) -> int | None:
        """Maximum number of frames in the working memory, except given ones after the first; None: no maximum."""
        if self.enabled:
            return self.max_frames
        return None if self.bound is None else self.bound + 1


@state_dataclass
class ClipMemory(State):
    """The memory of one clip.

    Attributes:
        groups: values, one group per frame in which objects appeared. The first group has values for all elements.
        policy: rules for what stays.
        working: whole frames: those with given masks, then the newest others.
        long: prototypes.
        frame_positions: number of positions of a frame.
        given: number of frames with given masks.
    """

    groups: list[Group]
    policy: LongTermPolicy
    working: Elements | None = None
    long: Elements | None = None
    frame_positions: int = 0
    given: int = 0

    @property
    def frames(self) -> int:
        """Number of frames in the working memory."""
        return self.working.size // self.frame_positions if self.working is not None else 0

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of elements in the working and in the long-term memory."""
        return 0 if self.working is None else self.working.size, 0 if self.long is None else self.long.size

    def write(self, new: Elements, value: Tensor, given: bool) -> ClipMemory:
        """Write a frame with values 1 O N V; if the working memory is full, drop older frames or make prototypes."""
        slot, size, policy = self.frames, new.size, self.policy
        capacity = slot + 1 + slot // 2
        if policy.capacity is not None:
            capacity = min(capacity, policy.capacity + max(0, self.given - 1) + given)
        working = new if self.working is None else self.working.append(new, capacity * size)
        parts = torch.split(value, [group.objects for group in self.groups], 1)
        long = 0 if self.long is None else self.long.keys.shape[2]
        groups = [group.write(part, slot, capacity, long) for group, part in zip(self.groups, parts, strict=True)]
        memory = replace(self, working=working, groups=groups, frame_positions=size, given=max(1, self.given))
        if given and slot:
            dropped = int(self.given == policy.max_given)
            kept = [0, *range(1 + dropped, self.given), slot, *range(self.given, slot)]
            memory = replace(memory._retain(kept), given=self.given + 1 - dropped)
        if policy.capacity is not None and 1 + memory.frames - memory.given >= policy.capacity:
            memory = memory.consolidate() if policy.enabled else memory._drop_oldest()
        return memory

    def read(self, query: Tensor, selection: Tensor, top_k: int | None) -> tuple[Tensor, ClipMemory]:
        """Read all elements by queries and selections 1 Q C: readouts 1 O Q V. Counts the use of elements."""
        assert self.working is not None, "nothing was written"
        stores = [self.long, self.working] if self.long is not None and self.long.size else [self.working]
        keys, shrinkage = (torch.cat(parts, 2) for parts in zip(*(s.slice(0, s.size)[:2] for s in stores), strict=True))
        elements = sum(store.size for store in stores[:-1])
        masks = [group.mask(elements, self.frame_positions) for group in self.groups]
        with torch.autocast(query.device.type, enabled=False):
            queries, expanded = expand_query(query, selection)[0], expand_keys(keys, shrinkage)[0, 0]
            scaled, chunk = queries * queries.shape[1] ** -0.5, query_chunk_size(keys)
            parts, usage = affinities(scaled, expanded, masks, top_k, chunk)
            readouts = [
                read_values(*part, *group.values(elements, self.working.size))
                for part, group in zip(parts, self.groups, strict=True)
            ]
        counted = [
            store.count(part) for store, part in zip(stores, torch.split(usage, [s.size for s in stores]), strict=True)
        ]
        long = counted[0] if len(counted) == 2 else self.long
        return torch.cat(readouts).unsqueeze(0), replace(self, working=counted[-1], long=long)

    def read_frames(self, query: Tensor, selection: Tensor, frames: list[int]) -> Tensor:
        """Read some frames of the working memory by all their positions, as in training: readouts 1 O Q V."""
        assert self.working is not None, "nothing was written"
        expanded = expand_query(query, selection), expand_keys(*self.working.slice(0, self.working.size)[:2])
        order = frame_order(frames, self.working.keys, self.frame_positions)[: len(frames) * self.frame_positions]
        keys = expanded[1].index_select(2, order)
        values = [group.values(0, self.working.size)[-1].index_select(2, order) for group in self.groups]
        return attend(expanded[0], keys, torch.cat(values, 1))

    def repeat(self, frames: int) -> ClipMemory:
        """Return the memory after `frames` copies of the first frame, all of whose elements are in use."""
        memory = self
        for _ in range(frames - 1):
            assert memory.working is not None, "nothing was written"
            first = Elements.new(*memory.working.slice(0, self.frame_positions))
            values = [group.values(0, self.frame_positions)[-1] for group in memory.groups]
            memory = memory.write(first, torch.cat(values, 1), False)
            counted = [
                store if store is None else store.count(torch.linspace(1, 2, store.size, device=store.keys.device))
                for store in (memory.working, memory.long)
            ]
            memory = replace(memory, working=counted[0], long=counted[1])
        return memory

    def _retain(self, kept: list[int]) -> ClipMemory:
        """Keep some frames of the working memory, in the given order."""
        assert self.working is not None, "nothing was written"
        order = frame_order(kept, self.working.keys, self.frame_positions)
        groups = [group.retain(kept, self.frame_positions) for group in self.groups]
        return replace(self, working=self.working.reorder(order, len(kept) * self.frame_positions), groups=groups)

    def _drop_oldest(self) -> ClipMemory:
        """Drop the oldest frame without given masks."""
        return self._retain([*range(self.given), *range(self.given + 1, self.frames)])

    def consolidate(self) -> ClipMemory:
        """Replace all frames but those with given masks and the newest by prototypes: the elements read most."""
        assert self.working is not None, "nothing was written"
        size, end = self.frame_positions, self.frames - (self.policy.min_frames - 1)
        keys, shrinkage, selection = self.working.slice(self.given * size, end * size)
        usage = self.working.mean_usage()[self.given * size : end * size]
        chosen = usage.topk(min(self.policy.prototypes, len(usage))).indices
        with torch.autocast(keys.device.type, enabled=False):
            queries = expand_query(keys[0, 0, chosen], selection[0, 0, chosen])
            similarity = queries @ expand_keys(keys[0, 0], shrinkage[0, 0]).T * queries.shape[1] ** -0.5
            parts = [group.potentiate(similarity, chosen, self.given, size) for group in self.groups]
            potentiated = similarity.softmax(-1) @ shrinkage[0, 0].to(similarity.dtype)
        prototypes = Elements.new(
            keys[:, :, chosen], potentiated.view(1, 1, -1, 1).to(shrinkage.dtype), selection[:, :, chosen]
        )
        memory = self._evict()._append(prototypes, parts)
        return memory._retain([*range(self.given), *range(end, self.frames)])

    def _evict(self) -> ClipMemory:
        """Make space for prototypes: drop the least used ones. See `LongTermPolicy.spare`."""
        most, spare = self.policy.max_elements - self.policy.prototypes, self.policy.spare
        if self.long is None or self.long.size < most + (spare is None):
            return self
        usage = self.long.mean_usage()
        if spare is None:
            kept = usage > usage.topk(self.long.size - most, largest=False).values[-1]
        else:
            kept = torch.zeros_like(usage, dtype=torch.bool).index_fill(0, usage.topk(most - spare).indices, True)
        dropped = F.pad(~kept, (0, self.long.keys.shape[2] - len(usage)), value=True)
        order, survivors = dropped.int().argsort(stable=True), int(kept.sum())
        groups = [group.reorder(order) for group in self.groups]
        return replace(self, long=self.long.reorder(order, survivors), groups=groups)

    def _append(self, prototypes: Elements, parts: list[tuple[Tensor, Tensor]]) -> ClipMemory:
        """Append prototypes, with values and whether a group has them."""
        before = self.long.size if self.long is not None else 0
        end = before + prototypes.size
        capacity = end + end // 2
        if capacity + self.policy.prototypes > self.policy.max_elements:
            capacity = self.policy.max_elements
        long = prototypes if self.long is None else self.long.append(prototypes, capacity)
        groups = [group.append(*part, before, capacity) for group, part in zip(self.groups, parts, strict=True)]
        return replace(self, long=long, groups=groups)


@state_dataclass
class LongTermMemory(State):
    """The memories of several clips.

    Attributes:
        clips: one per clip; they have the same groups of objects.

    Example:
        >>> memory = LongTermMemory.empty(1, LongTermPolicy(max_frames=3, min_frames=2, prototypes=4)).extend(2)
        >>> for _ in range(6):
        ...     frame = torch.randn(1, 12, 8), torch.ones(1, 12, 1), torch.ones(1, 12, 8), torch.randn(1, 2, 12, 5)
        ...     memory = memory.write(*frame)
        >>> memory.clips[0].sizes
        (24, 16)
        >>> memory.read(torch.randn(1, 7, 8), torch.rand(1, 7, 8), top_k=5)[0].shape
        torch.Size([1, 2, 7, 5])
    """

    clips: list[ClipMemory]

    @classmethod
    def empty(cls, batch: int, policy: LongTermPolicy) -> LongTermMemory:
        """Return a memory without objects."""
        return cls([ClipMemory([], policy) for _ in range(batch)])

    def extend(self, objects: int) -> LongTermMemory:
        """Add objects whose first frame is the next one that is written."""
        if not objects:
            return self
        return LongTermMemory([replace(clip, groups=[*clip.groups, Group(objects)]) for clip in self.clips])

    def write(
        self, keys: Tensor, shrinkage: Tensor, selection: Tensor, values: Tensor, given: bool = False
    ) -> LongTermMemory:
        """Write a frame.

        Args:
            keys: B N C.
            shrinkage: B N 1.
            selection: B N C.
            values: B O N V.
            given: whether masks of known objects are given on the frame; then it does not become prototypes.
        """
        given = admit_given(given, (clip.given for clip in self.clips), self.clips[0].policy.max_given)
        shared = [torch.split(x.unsqueeze(1), 1) for x in (keys, shrinkage, selection)]
        return LongTermMemory(
            [
                clip.write(Elements.new(*parts), value, given)
                for clip, value, *parts in zip(self.clips, torch.split(values, 1), *shared, strict=True)
            ]
        )

    def read(self, query: Tensor, selection: Tensor, top_k: int | None) -> tuple[Tensor, LongTermMemory]:
        """Read by queries and selections B Q C, and count the use of elements.

        Returns:
            readouts B O Q V, and the memory.
        """
        parts = zip(self.clips, torch.split(query, 1), torch.split(selection, 1), strict=True)
        readouts, clips = zip(*(clip.read(q, s, top_k) for clip, q, s in parts), strict=True)
        return torch.cat(readouts), LongTermMemory(list(clips))

    def read_random_frames(self, query: Tensor, selection: Tensor, frames: int, first: bool = True) -> Tensor:
        """Read random frames of the working memory, as in training.

        Args:
            query: B Q C.
            selection: B Q C.
            frames: maximum number of frames that are read.
            first: whether the first frame is always one of them.

        Returns:
            readouts B O Q V.
        """
        readouts, start = [], int(first)
        for clip, q, s in zip(self.clips, torch.split(query, 1), torch.split(selection, 1), strict=True):
            others = (torch.randperm(clip.frames - start) + start)[: frames - start].sort().values.tolist()
            readouts.append(clip.read_frames(q, s, [*range(start), *others]))
        return torch.cat(readouts)

    def repeat(self, frames: int) -> LongTermMemory:
        """Return a memory as large as after `frames` copies of the first frame, for benchmarks."""
        return LongTermMemory([clip.repeat(frames) for clip in self.clips])
