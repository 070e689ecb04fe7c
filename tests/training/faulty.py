"""`python -m tests.training.faulty ...` is `python -m src.train ...` with the accident that `FAULT` describes.

`FAULT` is `kind@step` or `kind@step@process`: a signal's name, sent in the middle of that step; `nan` or `inf`, which
the loss becomes; `error`, which is raised; `none`.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from voslab.cli.entry import run
from voslab.core import DataError
from voslab.training.module import VOSModule

KIND, STEP, PROCESS = (os.environ["FAULT"] + "@0").split("@")[:3]
original = VOSModule.training_step


def training_step(self: VOSModule, clip: Any) -> Any:
    loss = original(self, clip)
    if self.global_step != int(STEP) or self.global_rank != int(PROCESS):
        return loss
    if KIND in {"nan", "inf"}:
        return loss * float(KIND)
    if KIND == "error":
        raise DataError("nothing to see here")
    os.kill(os.getpid(), signal.Signals[KIND])
    time.sleep(0.2)
    return loss


if __name__ == "__main__":
    VOSModule.training_step = training_step  # type: ignore[method-assign]
    run("train")
