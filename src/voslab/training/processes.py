"""Handles the processes of a distributed run when one of them fails or receives a signal."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from voslab.core import VOSError
from voslab.core.signals import SIGNALS


def slurm() -> SLURMEnvironment:
    """Return the environment of processes started by srun, without Lightning's requeue, which saves within a step."""
    return SLURMEnvironment(auto_requeue=False)


def children(trainer: L.Trainer) -> list[subprocess.Popen[Any]]:
    """Return the processes that Lightning started for this trainer, without the current one."""
    return list(getattr(trainer.strategy.launcher, "procs", ()))


def handle_signals(trainer: L.Trainer) -> None:
    """Use `SIGNALS` instead of Lightning's handlers, which communicate with other processes from within the handler.

    Args:
        trainer: the trainer of this process, before it runs.
    """
    SIGNALS.children = lambda: _disowned(trainer)
    SIGNALS.launched = trainer.local_rank > 0 and not _creates_elsewhere(trainer)
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


def requeue() -> None:
    """Ask SLURM to start this job again."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    subprocess.run(["scontrol", "requeue", job], check=False)


def await_children(trainer: L.Trainer) -> None:
    """Wait for the started processes to end, and kill those that do not end in time."""
    for child in children(trainer):
        try:
            child.wait(20.0 if SIGNALS.received is None else 5.0)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def is_peer_failure(trainer: L.Trainer, error: BaseException) -> bool:
    """Return whether an error only reports that another process has ended."""
    return trainer.world_size > 1 and (
        isinstance(error, dist.DistError)
        or (isinstance(error, RuntimeError) and ("gloo" in str(error) or "Connection closed by peer" in str(error)))
    )


def describe_error(trainer: L.Trainer, error: BaseException) -> str:
    """Format an error in one line, with its process if there are several."""
    if not is_peer_failure(trainer, error):
        return (
            f"process {trainer.global_rank} of {trainer.world_size}: {error}" if trainer.world_size > 1 else str(error)
        )
    await_children(trainer)
    codes = {rank: child.returncode for rank, child in enumerate(children(trainer), 1) if child.returncode}
    ended = ", ".join(f"process {rank} ended with code {code}" for rank, code in codes.items())
    return f"process {trainer.global_rank} of {trainer.world_size}: {ended or 'another process ended'}"


def with_process(trainer: L.Trainer, error: VOSError | RuntimeError) -> VOSError | RuntimeError:
    """Return the error with its process named. A peer failure becomes one line; a programming error is unchanged."""
    if is_peer_failure(trainer, error):
        return VOSError(describe_error(trainer, error))
    return type(error)(describe_error(trainer, error)) if isinstance(error, VOSError) else error


def _disowned(trainer: L.Trainer) -> list[subprocess.Popen[Any]]:
    """Return the processes that Lightning started, after Lightning was made to forget them.

    It would kill this process when one of them ends with an exit code other than 0, as they may after a signal.
    """
    found = children(trainer)
    if found:
        trainer.strategy.launcher.procs.clear()  # type: ignore[union-attr]
        trainer.strategy.launcher.procs = found  # type: ignore[union-attr]
    return found


def _creates_elsewhere(trainer: L.Trainer) -> bool:
    environment = getattr(trainer.strategy, "cluster_environment", None)
    # In processes that it started, Lightning's own environment claims the same.
    return environment is not None and type(environment).__name__ != "LightningEnvironment"
