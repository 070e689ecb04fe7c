"""The processes of a run: what happens to the others when one of them fails."""

from __future__ import annotations

import subprocess
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from src.core import VOSError


def slurm() -> SLURMEnvironment:
    """Processes that srun started. Lightning's own requeue saves in the middle of a step; ours waits for its end."""
    return SLURMEnvironment(auto_requeue=False)


def children(trainer: L.Trainer) -> list[subprocess.Popen[Any]]:
    """The processes that Lightning started for this trainer, besides its own."""
    return list(getattr(trainer.strategy.launcher, "procs", ()))


def await_children(trainer: L.Trainer, seconds: float = 20.0) -> None:
    """Wait for processes that are ending, and end those that are not."""
    for child in children(trainer):
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def lost(trainer: L.Trainer, error: BaseException) -> bool:
    """Whether an error says no more than that another process has gone."""
    return trainer.world_size > 1 and (
        isinstance(error, dist.DistError)
        or (isinstance(error, RuntimeError) and ("gloo" in str(error) or "Connection closed by peer" in str(error)))
    )


def named(trainer: L.Trainer, error: BaseException) -> str:
    """One line for an error, with the process it comes from if there are several."""
    if not lost(trainer, error):
        return (
            f"process {trainer.global_rank} of {trainer.world_size}: {error}" if trainer.world_size > 1 else str(error)
        )
    await_children(trainer)
    codes = {rank: child.returncode for rank, child in enumerate(children(trainer), 1) if child.returncode}
    gone = ", ".join(f"process {rank} ended with code {code}" for rank, code in codes.items()) or "another has gone"
    return f"process {trainer.global_rank} of {trainer.world_size}: {gone}"


def as_own(trainer: L.Trainer, error: VOSError | RuntimeError) -> VOSError | RuntimeError:
    """The error with the name of its process; another's end as one line, a fault of the program as it is."""
    if lost(trainer, error):
        return VOSError(named(trainer, error))
    return type(error)(named(trainer, error)) if isinstance(error, VOSError) else error
