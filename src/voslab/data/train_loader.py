"""Training loader that saves its position and resumes from it."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from voslab.core import ConfigError
from voslab.data.samplers import TrainSampler
from voslab.data.workers import start_worker, starting_workers


class TrainLoader(DataLoader[Any]):
    """Loads the batches of one process and resumes at any batch.

    Lightning stores `state_dict` in checkpoints and restores it before the first batch. The length is that of a whole
    epoch even if iteration starts later, because Lightning counts the skipped batches too. `wait_seconds` is the total
    time that the caller waited for batches.

    Args:
        dataset: Items by (epoch, index).
        sampler: Addresses of this process.
        batch: Clips per batch.
        num_workers: Number of loader processes.
        collate: Function that makes a batch from items.
        seed: Seed of the workers' seeds, which would otherwise consume the global random stream used by dropout.
        pin_memory: Whether batches are page-locked, if there is a GPU.
        persistent_workers: Whether workers, if there are any, serve all epochs.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        sampler: TrainSampler,
        batch: int,
        num_workers: int,
        collate: Any,
        seed: int,
        pin_memory: bool = False,
        persistent_workers: bool = False,
    ) -> None:
        super().__init__(
            dataset,
            batch,
            sampler=sampler,
            drop_last=True,
            num_workers=num_workers,
            collate_fn=collate,
            worker_init_fn=start_worker,
            generator=torch.Generator().manual_seed(seed),
            pin_memory=pin_memory and torch.cuda.is_available(),
            persistent_workers=persistent_workers and num_workers > 0,
        )
        self.addresses = sampler
        self.wait_seconds = 0.0
        self._yielded = 0

    def __iter__(self) -> Any:
        """Yield the remaining batches of the sampler's epoch."""
        self._yielded = self.addresses.first
        with starting_workers():
            batches = super().__iter__()
        return self._counted(batches)

    def _counted(self, batches: Any) -> Any:
        started = time.perf_counter()
        for batch in batches:
            self.wait_seconds += time.perf_counter() - started
            self._yielded += 1
            yield batch
            started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the number of batches yielded, and the parameters of their order."""
        return {"epoch": self.addresses.epoch, "batches": self._yielded, "plan": list(self.addresses.plan)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume after the batches of a state.

        Args:
            state: Result of `state_dict`.

        Raises:
            ConfigError: If the state is within an epoch and the clips, their order or the batches have changed.
        """
        kinds = ("clips an epoch", "seed", "clips per pass of all processes", "batch_size")
        # Earlier checkpoints have no batch size: they hold the first three.
        compared = zip(kinds, state["plan"], self.addresses.plan, strict=False)
        changed = [f"{kind} was {old}, is {new}" for kind, old, new in compared if old != new]
        if 0 < state["batches"] < len(self) and changed:
            raise ConfigError(f"resume: the checkpoint is from the middle of an epoch and {', '.join(changed)}")
        self.addresses.skip_batches(state["epoch"], state["batches"])
