"""A loader of training batches that says how far it is and goes on from there."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

from voslab.core import ConfigError
from voslab.data.samplers import TrainSampler
from voslab.data.workers import start_worker, starting_workers


class TrainLoader(DataLoader[Any]):
    """Batches of one process, resumable at any of them.

    Lightning keeps `state_dict` in checkpoints and gives it back before the first batch. Its length is that of a whole
    epoch even where it begins later, as Lightning counts the batches before it too. `waited` are the seconds that its
    user has waited for batches.

    Args:
        dataset: items by (epoch, index).
        sampler: addresses of this process.
        batch: clips per batch.
        num_workers: loader processes.
        collate: makes a batch of items.
        seed: of the workers' own seeds, which would else come from the global stream that dropout reads too.
    """

    def __init__(
        self, dataset: Dataset[Any], sampler: TrainSampler, batch: int, num_workers: int, collate: Any, seed: int
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=BatchSampler(sampler, batch, drop_last=True),  # type: ignore[arg-type]
            num_workers=num_workers,
            collate_fn=collate,
            worker_init_fn=start_worker,
            generator=torch.Generator().manual_seed(seed),
        )
        self.addresses = sampler
        self.waited = 0.0
        self._given = 0

    def __iter__(self) -> Any:
        """Batches of the sampler's epoch that were not trained on yet."""
        self._given = self.addresses.first
        with starting_workers():
            batches = super().__iter__()
        return self._counted(batches)

    def _counted(self, batches: Any) -> Any:
        begun = time.perf_counter()
        for batch in batches:
            self.waited += time.perf_counter() - begun
            self._given += 1
            yield batch
            begun = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """The epoch, how many of its batches were given out, and what decided on their order."""
        return {"epoch": self.addresses.epoch, "batches": self._given, "plan": list(self.addresses.plan)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin behind the batches of a state.

        Raises:
            ConfigError: in the middle of an epoch that went through other clips, in another order or other batches.
        """
        if 0 < state["batches"] < len(self) and state["plan"] != list(self.addresses.plan):
            kinds = ("clips an epoch", "seed", "batch_size")
            changed = [
                f"{kind} was {old}, is {new}"
                for kind, old, new in zip(kinds, state["plan"], self.addresses.plan, strict=True)
                if old != new
            ]
            raise ConfigError(f"resume: the checkpoint is from the middle of an epoch and {', '.join(changed)}")
        self.addresses.leave_out(state["epoch"], state["batches"])
