"""Handles the processes of a distributed run when one of them fails or receives a signal."""

from __future__ import annotations

import logging
import signal
import subprocess
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

import lightning as L
import torch.distributed as dist
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from voslab.core import VOSError

log = logging.getLogger(__name__)


def slurm() -> SLURMEnvironment:
    """Return the environment of processes started by srun, without Lightning's requeue, which saves within a step."""
    return SLURMEnvironment(auto_requeue=False)


def children(trainer: L.Trainer) -> list[subprocess.Popen[Any]]:
    """Return the processes that Lightning started for this trainer, without the current one."""
    return list(getattr(trainer.strategy.launcher, "procs", ()))


def await_children(trainer: L.Trainer, seconds: float = 20.0) -> None:
    """Wait for the started processes to end, and kill those that do not end in time."""
    for child in children(trainer):
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def end(trainer: L.Trainer, number: int) -> NoReturn:
    """End this process after a signal, with exit code 128 + signal."""
    # Lightning treats any other code of a process that it started as a crash, and kills the other processes.
    launched = trainer.local_rank > 0 and not _creates_elsewhere(trainer)
    raise SystemExit(0 if launched else 128 + number)


class EndOnSignal(L.Callback):
    """Ends an evaluation immediately on SIGTERM; Lightning would finish the current sequence and return exit code 0."""

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Replace Lightning's signal handler."""

        def handle(number: int, _: FrameType | None) -> None:
            for child in children(trainer):
                with suppress(OSError):
                    child.send_signal(number)
            if trainer.is_global_zero:
                log.warning("stopped by %s", signal.Signals(number).name)
            end(trainer, number)

        signal.signal(signal.SIGTERM, handle)
        if trainer.received_sigterm:
            handle(signal.SIGTERM, None)


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


def _creates_elsewhere(trainer: L.Trainer) -> bool:
    environment = getattr(trainer.strategy, "cluster_environment", None)
    # In processes that it started, Lightning's own environment claims the same.
    return environment is not None and type(environment).__name__ != "LightningEnvironment"
