"""SwiftNet's memory: of a frame that stays, only the positions least like what is remembered already.

Positions ("columns") are rows as in `voslab.nn.memory`: keys B O N C, values B O N V, queries B Q C. The newest frame
is read as a whole until the next one is written. Which positions stay is a choice without gradient; what they hold has
one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import State, state
from voslab.nn.affinity import attend, positions_at_once
from voslab.nn.export_compat import in_parts
from voslab.nn.memory import place


@dataclass(frozen=True, slots=True)
class Policy:
    """What stays.

    Attributes:
        share: of a frame's positions, the least similar, in (0, 1].
        bound: most columns that stay per object, in whole frames, at least 2: an object's first frame and the newest
            shares of others; None: all.
        previous: the newest frame is read as a whole, whether a share of it stays or not.
    """

    share: float = 0.1
    bound: int | None = None
    previous: bool = True

    def columns(self, cells: int) -> int:
        """How many of a frame's positions stay."""
        return cells - int(cells * (1 - self.share))

    def updates(self, cells: int) -> int | None:
        """How many frames' shares fit."""
        return None if self.bound is None else (self.bound - 1) * cells // self.columns(cells)


@state
class PixelBank(State):
    """Columns in the memory of the objects that appeared together.

    Attributes:
        objects: how many there are.
        keys, values: room for columns: those that stay, and behind them the newest frame.
        cells: positions of one frame.
        newest: columns of the newest frame: 0 or `cells`.
        due: by clip, whether a share of the newest frame stays.
        updates: by clip, shares that were to stay, ever.
    """

    objects: int
    keys: Tensor | None = None
    values: Tensor | None = None
    cells: int = 0
    newest: int = 0
    due: list[bool] | None = None
    updates: list[int] | None = None

    def staying(self, policy: Policy) -> list[int]:
        """By clip, columns that stay."""
        most = policy.updates(self.cells)
        counts = [count if most is None else min(count, most) for count in self.updates or [0]]
        return [self.cells + count * policy.columns(self.cells) for count in counts]

    def write(self, key: Tensor, value: Tensor, due: list[bool], policy: Policy) -> PixelBank:
        """Add a frame; an object's first one stays as a whole."""
        if self.keys is None or self.values is None:
            keys, values = key.contiguous(), value.contiguous()
            return PixelBank(self.objects, keys, values, key.shape[2], updates=[0] * len(due))
        settled = self.settle(policy)
        at = max(settled.staying(policy))
        most = at + self.cells + (at // 2 if policy.bound is None else min(at // 2, policy.bound * self.cells - at))
        keys, values = place(settled.keys, key, at, most), place(settled.values, value, at, most)
        written = replace(settled, keys=keys, values=values, newest=self.cells, due=due)
        return written if policy.previous else written.settle(policy)

    def settle(self, policy: Policy) -> PixelBank:
        """Keep the share of the newest frame that is to stay, and forget the rest."""
        if self.newest == 0 or self.due is None or not any(self.due):
            return replace(self, newest=0)
        assert self.keys is not None, "nothing was written"
        assert self.values is not None, "nothing was written"
        assert self.updates is not None, "nothing was written"
        end = max(self.staying(policy))
        key, value = (x[:, :, end : end + self.cells] for x in (self.keys, self.values))
        where = least_similar(max_cosine(key, self.keys[:, :, :end], self._used(policy, end)), policy.share)
        # Clips for which nothing stays write where the newest frame was: behind what they read.
        most = policy.updates(self.cells)
        slots = [
            self.cells + (count if most is None else count % most) * where.shape[2] if due else end
            for count, due in zip(self.updates, self.due, strict=True)
        ]
        keys, values = (_put(x, _take(new, where), slots) for x, new in ((self.keys, key), (self.values, value)))
        updates = [count + due for count, due in zip(self.updates, self.due, strict=True)]
        return replace(self, keys=keys, values=values, newest=0, updates=updates)

    def read(self, query: Tensor, policy: Policy) -> Tensor:
        """Space-time attention over all columns."""
        assert self.keys is not None, "nothing was written"
        assert self.values is not None, "nothing was written"
        end = self.filled(policy)
        used = self._used(policy, end)
        return attend(query, self.keys[:, :, :end], self.values[:, :, :end], used=used)

    def filled(self, policy: Policy) -> int:
        """Columns that are read, of the clip that has most."""
        return max(self.staying(policy)) + self.newest

    def repeat(self, frames: int, policy: Policy) -> PixelBank:
        """As large as after `frames` frames of which a share stayed, filled with the first."""
        if self.keys is None or self.values is None or self.updates is None:
            return self
        made = replace(self, newest=0, updates=[frames - 1] * len(self.updates))
        where = torch.arange(made.filled(policy), device=self.keys.device) % self.cells
        return replace(made, keys=self.keys[:, :, where], values=self.values[:, :, where])

    def _used(self, policy: Policy, end: int) -> Tensor | None:
        """Which of the first `end` columns each clip reads, B end; None: all."""
        assert self.keys is not None, "nothing was written"
        counts = self.staying(policy)
        if len(set(counts)) == 1:
            return None
        columns = torch.arange(end, device=self.keys.device)
        return (columns < torch.tensor(counts, device=self.keys.device).unsqueeze(1)) | (columns >= max(counts))


@state
class PixelMemory(State):
    """Keys and values of chosen positions, chosen object by object (SwiftNet's pixel-adaptive memory).

    Attributes:
        banks: objects by the frame in which they appeared: each looks back no further than that.
        policy: what stays.
    """

    banks: list[PixelBank]
    policy: Policy

    @property
    def columns(self) -> list[int]:
        """Columns that are read, by bank."""
        return [bank.filled(self.policy) for bank in self.banks]

    def wants(self, due: list[bool]) -> bool:
        """Whether a frame would be written."""
        return any(due) or self.policy.previous or any(bank.keys is None for bank in self.banks)

    def write(self, key: Tensor, value: Tensor, due: list[bool]) -> PixelMemory:
        """Add a frame: as a whole until the next one is written, then the share of it that stays where it is due.

        Args:
            key, value: B O N C.
            due: by clip, whether a share stays.
        """
        counts = [bank.objects for bank in self.banks]
        parts = zip(self.banks, torch.split(key, counts, 1), torch.split(value, counts, 1), strict=True)
        return replace(self, banks=[bank.write(k, v, due, self.policy) for bank, k, v in parts])

    def read(self, query: Tensor) -> Tensor:
        """See `attend`."""
        return torch.cat([bank.read(query, self.policy) for bank in self.banks], 1)

    def extend(self, objects: int) -> PixelMemory:
        """Make room for objects that appear now."""
        return replace(self, banks=[*self.banks, PixelBank(objects)]) if objects else self

    def repeat(self, frames: int) -> PixelMemory:
        """A memory as large as after so many frames of which a share stayed, to measure with."""
        return replace(self, banks=[bank.repeat(frames, self.policy) for bank in self.banks])


@torch.no_grad()
def max_cosine(key: Tensor, memory: Tensor, used: Tensor | None = None) -> Tensor:
    """Each position's largest cosine similarity with a memory: B O N C, B O M C, used B M -> B O N, float32."""
    with torch.autocast(key.device.type, enabled=False):
        new = F.normalize(key.float(), dim=-1)
        old = F.normalize(memory.float(), dim=-1).transpose(2, 3)
        parts = []
        for chunk in in_parts(new, 2, lambda: positions_at_once(memory)):
            scores = chunk @ old
            parts.append((scores if used is None else scores.masked_fill(~used[:, None, None], -2)).amax(-1))
        return torch.cat(parts, 2)


def least_similar(similarity: Tensor, share: float) -> Tensor:
    """Positions of the lowest similarities, ascending in position: B O N -> B O n, int64."""
    cells = similarity.shape[-1]
    order = torch.argsort(similarity, dim=-1, descending=True, stable=True)
    return order[..., int(cells * (1 - share)) :].sort(-1).values


def _take(flatten_hw: Tensor, where: Tensor) -> Tensor:
    """B O N C at positions B O n -> B O n C."""
    return flatten_hw.gather(2, where.unsqueeze(-1).expand(-1, -1, -1, flatten_hw.shape[-1]))


def _put(buffer: Tensor, new: Tensor, slots: list[int]) -> Tensor:
    """Columns `slots`[b]… of a buffer B O S C replaced by new B O n C."""
    if len(set(slots)) == 1:
        return place(buffer, new, slots[0], buffer.shape[2])
    columns = torch.tensor(slots, device=buffer.device).unsqueeze(1) + torch.arange(new.shape[2], device=buffer.device)
    return buffer.scatter(2, columns[:, None, :, None].expand_as(new), new)
