"""Memories of the matching methods, with the methods `write`, `read` and `extend`.

Shapes: keys B G N C (G = O, or 1 if all objects share them), values B O N V, queries B Q C, readouts B O Q V, where N
and Q are positions. `write` consumes the memory: without gradients its buffers are overwritten in place.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from voslab.core import State, state_dataclass
from voslab.nn.affinity import Kernel, Similarity, attend

_log = logging.getLogger(__name__)


@state_dataclass
class Bank(State):
    """The memory of the objects that appeared in the same frame.

    Attributes:
        objects: number of objects.
        keys: key buffer B G N C; the first `readable` frames of it are read.
        values: value buffer B O N V.
        frame_positions: number of positions of one frame.
        given: number of frames with given masks, which are at the start of the buffers and are never overwritten.
        recent: number of other retained frames, after them. A temporary frame, or a part of one, may follow until the
            next write.
        readable: number of positions that are read.
        total_recent: number of `recent` frames ever written, including those that were overwritten.
    """

    objects: int
    keys: Tensor | None = None
    values: Tensor | None = None
    frame_positions: int = 0
    given: int = 0
    recent: int = 0
    readable: int = 0
    total_recent: int = 0

    @property
    def retained(self) -> int:
        """Number of retained frames."""
        return self.given + self.recent

    def write(self, key: Tensor, value: Tensor, retain: bool, bound: int | None) -> Bank:
        """Write a frame.

        Args:
            key: B G N C of the frame; of a frame that is not retained there may be fewer positions.
            value: B O N V of the frame.
            retain: retain the frame; otherwise the next write overwrites it. The first frame is always retained.
            bound: maximum number of retained frames, the first one included and further given ones not; then the oldest
                one without given masks is overwritten. None: no maximum.
        """
        if not self.given:
            return self.insert(key, value, most=1)
        frame_positions = self.frame_positions
        slot = self.given + (self.recent if not retain or bound is None else self.total_recent % (bound - 1))
        recent = max(self.recent, slot - self.given + retain)
        wanted = slot + 1 + slot // 2
        capacity = wanted if bound is None else min(wanted, self.given + bound)
        return replace(
            self,
            keys=write_positions(self.keys, key, slot * frame_positions, capacity * frame_positions),
            values=write_positions(self.values, value, slot * frame_positions, capacity * frame_positions),
            recent=recent,
            readable=(self.given + recent) * frame_positions + (0 if retain else key.shape[2]),
            total_recent=self.total_recent + retain,
        )

    def insert(self, key: Tensor, value: Tensor, most: int) -> Bank:
        """Write a frame with given masks; if there are `most` such frames, the oldest except the first is dropped.

        Args:
            key: B G N C of the frame.
            value: B O N V of the frame.
            most: maximum number of frames with given masks.
        """
        if self.keys is None or self.values is None:
            new, positions = (key.contiguous(), value.contiguous()), key.shape[2]
            return Bank(self.objects, *new, frame_positions=positions, given=1, readable=positions)
        dropped = int(self.given == most)
        parts = [(0, 1), (1 + dropped, self.given), None, (self.given, self.given + self.recent)]

        def joined(buffer: Tensor, new: Tensor) -> Tensor:
            spans = [part and (part[0] * self.frame_positions, part[1] * self.frame_positions) for part in parts]
            return torch.cat([new if span is None else buffer[:, :, span[0] : span[1]] for span in spans], 2)

        given = self.given + 1 - dropped
        keys, values = joined(self.keys, key), joined(self.values, value)
        readable = (given + self.recent) * self.frame_positions
        return replace(self, keys=keys, values=values, given=given, readable=readable)

    def read(self, query: Tensor, top_k: int | None, similarity: Similarity, kernel: Kernel | None) -> Tensor:
        """Read all frames. See `attend`."""
        assert self.keys is not None, "nothing was written"
        assert self.values is not None, "nothing was written"
        keys, values = self.keys[:, :, : self.readable], self.values[:, :, : self.readable]
        return attend(query, keys, values, top_k, similarity, kernel)

    def repeat(self, frames: int) -> Bank:
        """Return a bank that holds `frames` copies of the first frame."""
        if self.keys is None or self.values is None:
            return self
        keys, values = (x[:, :, : self.frame_positions].repeat(1, 1, frames, 1) for x in (self.keys, self.values))
        return Bank(self.objects, keys, values, self.frame_positions, 1, frames - 1, keys.shape[2], frames - 1)


@state_dataclass
class DenseMemory(State):
    """Keys and values of every memorised position (STM).

    Attributes:
        banks: one per frame in which objects appeared. An object reads no frame before its first one.
        bound: maximum number of retained frames per object, at least 2; None: no maximum. Of the frames with given
            masks, only the first one is counted.
        previous: also write frames that are not retained; each is read until the next write.
        max_given: maximum number of frames per object on which masks were given, the object's first one included.

    Example:
        >>> memory = DenseMemory([]).extend(2)
        >>> memory = memory.write(torch.randn(1, 1, 12, 8), torch.randn(1, 2, 12, 4), retain=True)
        >>> memory.read(torch.randn(1, 6, 8)).shape
        torch.Size([1, 2, 6, 4])
    """

    banks: list[Bank]
    bound: int | None = None
    previous: bool = True
    max_given: int = 8

    def needs_write(self, retain: bool) -> bool:
        """Whether `write` changes the memory. The first frame of an object is always written and retained."""
        return any(self._needs_write(bank, retain) for bank in self.banks)

    def write(self, key: Tensor, value: Tensor, retain: bool, given: bool = False) -> DenseMemory:
        """Write a frame, on which masks of known objects may be given. See `Bank.write` and `Bank.insert`."""
        given = admit_given(given, (bank.given for bank in self.banks), self.max_given)
        counts = [bank.objects for bank in self.banks]
        shared = key.shape[1] == 1
        keys = [key] * len(counts) if shared else torch.split(key, counts, 1)
        banks = [
            bank.insert(k, v, self.max_given)
            if given
            else bank.write(k, v, retain, self.bound)
            if self._needs_write(bank, retain)
            else bank
            for bank, k, v in zip(self.banks, keys, torch.split(value, counts, 1), strict=True)
        ]
        return replace(self, banks=banks)

    def read(
        self, query: Tensor, top_k: int | None = None, similarity: Similarity = "dot", kernel: Kernel | None = None
    ) -> Tensor:
        """Read all banks. See `attend`."""
        parts = [bank.read(query, top_k, similarity, kernel) for bank in self.banks]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def extend(self, objects: int) -> DenseMemory:
        """Add objects whose first frame is the next one that is written."""
        return replace(self, banks=[*self.banks, Bank(objects)]) if objects else self

    def repeat(self, frames: int) -> DenseMemory:
        """Return a memory that holds `frames` copies of the first frame of each bank, for benchmarks."""
        return replace(self, banks=[bank.repeat(frames) for bank in self.banks])

    def _needs_write(self, bank: Bank, retain: bool) -> bool:
        return retain or self.previous or not bank.given


def admit_given(given: bool, counts: Iterable[int], most: int) -> bool:
    """Decide whether a memory keeps a frame as one with given masks, and log if it replaces an older one.

    Args:
        given: whether masks of known objects were given for the frame.
        counts: number of such frames per bank.
        most: maximum number of such frames, an object's first one included.

    Returns:
        whether it is kept.

    Example:
        >>> admit_given(True, [1, 2], most=8), admit_given(True, [1], most=1)
        (True, False)
    """
    if not given or most == 1:
        return False
    if most in counts:
        message = "the memory holds %d frames with given masks: the oldest except the first is dropped (memory_given)"
        _log.warning(message, most)
    return True


def check_policy(every: int, bound: int | None, top_k: int | None = None, given: int = 8) -> None:
    """Check the parameters of a dense memory.

    Args:
        every: interval of retained frames, at least 1.
        bound: maximum number of retained frames, at least 2; None: no maximum.
        top_k: number of positions per read, at least 1; None: all.
        given: maximum number of frames with given masks, at least 1.

    Raises:
        ValueError: if a number is too small.

    Example:
        >>> check_policy(every=5, bound=None, top_k=20)
    """
    if every < 1 or given < 1 or (top_k is not None and top_k < 1) or (bound is not None and bound < 2):
        values = f"memory_every={every}, memory_given={given}, top_k={top_k}, memory_bound={bound}"
        raise ValueError(f"{values}: must be at least 1, 1, 1 and 2")


def write_positions(buffer: Tensor | None, new: Tensor, start: int, capacity: int) -> Tensor:
    """Overwrite positions of a buffer, in place unless gradients are enabled.

    Args:
        buffer: B O S C; None: empty.
        new: B O N C.
        start: first position to overwrite.
        capacity: number of positions to allocate if the buffer is too short.

    Returns:
        the buffer, which is a new one if it had to grow.

    Example:
        >>> with torch.no_grad():
        ...     write_positions(torch.zeros(1, 1, 3, 1), torch.ones(1, 1, 1, 1), start=1, capacity=3).flatten()
        tensor([0., 1., 0.])
    """
    if buffer is None:
        return new.contiguous()
    end = start + new.shape[2]
    if torch.is_grad_enabled():
        return torch.cat([buffer[:, :, :start], new, buffer[:, :, end:]], 2)
    if end > buffer.shape[2]:
        grown = buffer.new_empty(*buffer.shape[:2], max(end, capacity), buffer.shape[3])
        grown[:, :, :start] = buffer[:, :, :start]
        buffer = grown
    buffer[:, :, start:end] = new
    return buffer
