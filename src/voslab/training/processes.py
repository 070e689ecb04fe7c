"""The processes of a run: what happens to the others when one of them fails or is told to end."""

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


def end(trainer: L.Trainer, number: int) -> NoReturn:
    """End this process because of a signal, with exit code 128 + signal."""
    # To Lightning, another code of a process that it started is a crash, to which it answers by killing the others.
    launched = trainer.local_rank > 0 and not _creates_elsewhere(trainer)
    raise SystemExit(0 if launched else 128 + number)


class EndOnSignal(L.Callback):
    """Ends an evaluation at once on SIGTERM; Lightning would behind the current sequence, with exit code 0."""

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen, in place of Lightning."""

        def answer(number: int, _: FrameType | None) -> None:
            for child in children(trainer):
                with suppress(OSError):
                    child.send_signal(number)
            if trainer.is_global_zero:
                log.warning("stopped by %s", signal.Signals(number).name)
            end(trainer, number)

        signal.signal(signal.SIGTERM, answer)
        if trainer.received_sigterm:
            answer(signal.SIGTERM, None)


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


def _creates_elsewhere(trainer: L.Trainer) -> bool:
    environment = getattr(trainer.strategy, "cluster_environment", None)
    # Lightning's own environment says so, too, in the processes that it has started.
    return environment is not None and type(environment).__name__ != "LightningEnvironment"
