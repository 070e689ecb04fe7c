"""`python -m tests.training.faulty ...` is `python -m src.train ...` with the accident that `FAULT` describes.

`FAULT` is `kind@when` or `kind@when@process`, in which `kind` is a signal's name, `nan` or `inf`, which the loss
becomes, `error`, which is raised, or `none`. After `nan`, process 0 takes longer to end than Lightning takes to notice
that another one has failed. `when` is a step, in the middle of which it happens, or for a signal

* `start`, `sanity`, `validation`, `test`: a phase, in which the process then does nothing for two minutes,
* `save`: while the first checkpoint is written,
* `blocked`: process 0 waits for process 1, which never ends its first validation.

The time of a signal in a phase is printed.
"""

from __future__ import annotations

import atexit
import os
import signal
import time
from typing import Any

from voslab.cli.entry import run
from voslab.core import DataError
from voslab.data.datamodule import VOSDataModule
from voslab.training.checkpointing import AtomicCheckpointIO
from voslab.training.module import VOSModule

KIND, WHEN, PROCESS = (os.environ["FAULT"] + "@0").split("@")[:3]
original_training_step, original_validation_step = VOSModule.training_step, VOSModule.validation_step
original_test_step, original_setup = VOSModule.test_step, VOSDataModule.setup
original_save_checkpoint = AtomicCheckpointIO.save_checkpoint


def training_step(self: VOSModule, clip: Any) -> Any:
    loss = original_training_step(self, clip)
    if str(self.global_step) != WHEN:
        return loss
    if KIND == "nan" and self.trainer.is_global_zero:
        atexit.register(time.sleep, 7)
    if self.global_rank != int(PROCESS):
        return loss
    if KIND in {"nan", "inf"}:
        return loss * float(KIND)
    if KIND == "error":
        raise DataError("nothing to see here")
    os.kill(os.getpid(), signal.Signals[KIND])
    time.sleep(0.2)
    return loss


def strike(process: int, seconds: float) -> None:
    print(f"struck at {time.time()}", flush=True)
    os.kill(process, signal.Signals[KIND])
    time.sleep(seconds)


def setup(self: VOSDataModule, stage: str) -> None:
    original_setup(self, stage)
    if WHEN == "start" and self.trainer.is_global_zero:
        strike(os.getpid(), 120)


def validation_step(self: VOSModule, item: Any) -> None:
    phase = "sanity" if self.trainer.sanity_checking else "validation"
    if phase == WHEN and self.trainer.is_global_zero:
        strike(os.getpid(), 120)
    if WHEN == "blocked" and phase == "validation" and self.global_rank == 1:
        time.sleep(3)
        strike(os.getppid(), 120)
    original_validation_step(self, item)


def test_step(self: VOSModule, item: Any) -> None:
    if WHEN == "test" and self.trainer.is_global_zero:
        strike(os.getpid(), 120)
    original_test_step(self, item)


def save_checkpoint(*arguments: Any, **options: Any) -> None:
    if WHEN == "save":
        strike(os.getpid(), 0.2)
    original_save_checkpoint(*arguments, **options)


if __name__ == "__main__":
    VOSModule.training_step = training_step  # type: ignore[method-assign]
    VOSModule.validation_step = validation_step  # type: ignore[method-assign]
    VOSModule.test_step = test_step  # type: ignore[method-assign]
    VOSDataModule.setup = setup  # type: ignore[method-assign]
    AtomicCheckpointIO.save_checkpoint = save_checkpoint  # type: ignore[method-assign, assignment]
    run("train")
