"""What matching methods remember: typed values with the verbs `write`, `read` and `extend`.

Positions are rows: keys B G N C (G = O, or 1 where all objects share them), values B O N V, queries B Q C, readouts
B O Q V. A memory that is passed on is consumed: without gradients its buffers are written in place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from voslab.core import State, state
from voslab.nn.affinity import Kernel, Similarity, attend

KeyNorm = Literal["softmax", "mean", "none"]
QueryNorm = Literal["softmax", "scale", "none"]


@state
class Bank(State):
    """Frames in the memory of the objects that appeared together.

    Attributes:
        objects: how many there are.
        keys, values: room for some frames, of which the first `filled` are read.
        cells: positions of one frame.
        kept: frames that stay; one more may lie behind them until the next one is written.
        filled: frames that are read.
        turns: frames that were to stay, ever.
    """

    objects: int
    keys: Tensor | None = None
    values: Tensor | None = None
    cells: int = 0
    kept: int = 0
    filled: int = 0
    turns: int = 0

    def write(self, key: Tensor, value: Tensor, stay: bool, bound: int | None) -> Bank:
        """Add a frame. When `bound` frames stay already, the oldest but the first gives way."""
        cells = key.shape[2]
        stay = stay or self.kept == 0
        full = stay and bound is not None and self.kept == bound
        slot = 1 + (self.turns - self.kept) % (self.kept - 1) if full else self.kept
        kept = self.kept + (stay and not full)
        most = slot + 1 + slot // 2 if bound is None else min(slot + 1 + slot // 2, bound + 1)
        return Bank(
            objects=self.objects,
            keys=place(self.keys, key, slot * cells, most * cells),
            values=place(self.values, value, slot * cells, most * cells),
            cells=cells,
            kept=kept,
            filled=kept if stay else kept + 1,
            turns=self.turns + stay,
        )

    def read(self, query: Tensor, top_k: int | None, similarity: Similarity, kernel: Kernel | None) -> Tensor:
        """Space-time attention over all frames."""
        assert self.keys is not None, "nothing was written"
        assert self.values is not None, "nothing was written"
        used = self.filled * self.cells
        return attend(query, self.keys[:, :, :used], self.values[:, :, :used], top_k, similarity, kernel)

    def repeat(self, frames: int) -> Bank:
        """The first frame, `frames` times."""
        if self.keys is None or self.values is None:
            return self
        keys, values = (x[:, :, : self.cells].repeat(1, 1, frames, 1) for x in (self.keys, self.values))
        return Bank(self.objects, keys, values, self.cells, frames, frames, frames)


@state
class DenseMemory(State):
    """Keys and values of every memorised position (STM).

    Attributes:
        banks: objects by the frame in which they appeared: each looks back no further than that.
        bound: most frames that stay per object, at least 2; None: as many as are written.
        previous: frames that don't stay are read too, each until the next one is written.
    """

    banks: list[Bank]
    bound: int | None = None
    previous: bool = True

    def wants(self, stay: bool) -> bool:
        """Whether a frame would be written: an object's first frame always is, and stays."""
        return any(self._takes(bank, stay) for bank in self.banks)

    def write(self, key: Tensor, value: Tensor, stay: bool) -> DenseMemory:
        """Add a frame, for good or until the next one is written."""
        counts = [bank.objects for bank in self.banks]
        shared = key.shape[1] == 1
        keys = [key] * len(counts) if shared else torch.split(key, counts, 1)
        banks = [
            bank.write(k, v, stay, self.bound) if self._takes(bank, stay) else bank
            for bank, k, v in zip(self.banks, keys, torch.split(value, counts, 1), strict=True)
        ]
        return replace(self, banks=banks)

    def read(
        self, query: Tensor, top_k: int | None = None, similarity: Similarity = "dot", kernel: Kernel | None = None
    ) -> Tensor:
        """See `attend`."""
        parts = [bank.read(query, top_k, similarity, kernel) for bank in self.banks]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def extend(self, objects: int) -> DenseMemory:
        """Make room for objects that appear now."""
        return replace(self, banks=[*self.banks, Bank(objects)]) if objects else self

    def repeat(self, frames: int) -> DenseMemory:
        """Every bank's first frame, `frames` times: a memory as large as after so many frames, to measure with."""
        return replace(self, banks=[bank.repeat(frames) for bank in self.banks])

    def _takes(self, bank: Bank, stay: bool) -> bool:
        return stay or self.previous or bank.kept == 0


@state
class GlobalMemory(State):
    """One C x V matrix per object, however many frames went into it (GAM, section 3.2.3).

    Attributes:
        context: G of Eq. 2, B O C V, float32.
        frames: T of Eq. 2, one per object: objects that appear later began later.
    """

    context: Tensor
    frames: list[int]

    @classmethod
    def empty(cls, batch: int, objects: int, key: int, value: int, device: torch.device) -> GlobalMemory:
        """Nothing written yet."""
        return cls(torch.zeros(batch, objects, key, value, device=device), [0] * objects)

    def wants(self, stay: bool) -> bool:
        """Whether a frame would be written: an object's first frame always is."""
        return stay or 0 in self.frames

    def write(self, key: Tensor, value: Tensor, stay: bool = True) -> GlobalMemory:
        """A = keyᵀ · value (Eq. 1) joins the running mean (Eq. 2). The key is normalised by `normalise_key`."""
        due = [stay or not count for count in self.frames]
        rates = [added / (count + 1) for added, count in zip(due, self.frames, strict=True)]
        with torch.autocast(key.device.type, enabled=False):
            new = key.float().transpose(2, 3) @ value.float()
            context = self.context + (new - self.context) * new.new_tensor(rates).view(1, -1, 1, 1)
        return GlobalMemory(context, [count + added for added, count in zip(due, self.frames, strict=True)])

    def read(self, query: Tensor) -> Tensor:
        """D = query · G (Eq. 3), float32. The query is normalised by `normalise_query`."""
        with torch.autocast(query.device.type, enabled=False):
            return query.float().unsqueeze(1) @ self.context

    def extend(self, objects: int) -> GlobalMemory:
        """Make room for objects that appear now."""
        batch, _, key, value = self.context.shape
        new = GlobalMemory.empty(batch, objects, key, value, self.context.device)
        return GlobalMemory(torch.cat([self.context, new.context], 1), self.frames + new.frames)

    def repeat(self, frames: int) -> GlobalMemory:
        """As if `frames` frames had been written: nothing grows."""
        return replace(self, frames=[frames] * len(self.frames))


def check_policy(every: int, bound: int | None, top_k: int | None) -> None:
    """Refuse a dense memory, or a read of it, without room.

    Raises:
        ValueError: naming the three numbers.
    """
    if every < 1 or (top_k is not None and top_k < 1) or (bound is not None and bound < 2):
        given = f"memory_every={every}, top_k={top_k}, memory_bound={bound}"
        raise ValueError(f"{given}: must be at least 1, 1 and 2")


def normalise_key(key: Tensor, how: KeyNorm) -> Tensor:
    """Keys ... N C, float32: each channel a distribution over positions, divided by their number, or as it is."""
    key = key.float()
    if how == "softmax":
        return key.softmax(-2)
    return key / key.shape[-2] if how == "mean" else key


def normalise_query(query: Tensor, how: QueryNorm) -> Tensor:
    """Queries ... Q C, float32: each position a distribution over channels, divided by √C, or as it is."""
    query = query.float()
    if how == "softmax":
        return query.softmax(-1)
    return query * query.shape[-1] ** -0.5 if how == "scale" else query


def place(buffer: Tensor | None, new: Tensor, at: int, most: int) -> Tensor:
    """Positions `at`… of a buffer B O S C replaced by `new`; it grows to `most` positions where it is too short."""
    if buffer is None:
        return new.contiguous()
    end = at + new.shape[2]
    if torch.is_grad_enabled():
        return torch.cat([buffer[:, :, :at], new, buffer[:, :, end:]], 2)
    if end > buffer.shape[2]:
        grown = buffer.new_empty(*buffer.shape[:2], max(end, most), buffer.shape[3])
        grown[:, :, :at] = buffer[:, :, :at]
        buffer = grown
    buffer[:, :, at:end] = new
    return buffer
