"""How a method is trained; plain values from `model.training` in the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch.optim import Optimizer


@dataclass(frozen=True, slots=True)
class Recipe:
    """Training choices that all methods share.

    Attributes:
        optimizer: called with the parameters to train.
        scheduler: called with the optimiser; None keeps the learning rate.
        schedule: whether the scheduler steps per epoch or per optimiser step.
        scratch_lr: learning rate in place of the optimiser's own when the encoder starts from random weights.
        freeze: submodules of the segmenter that do not train, and whose batch norm keeps its statistics, when
            encoder weights were loaded; without them everything trains.
        fixed_norm: batch norm keeps its statistics everywhere, when encoder weights were loaded.
        dice: weight of a soft Dice loss beside the method's own; 0, as published, for none.
        checkpoint: recompute each frame's activations in the backward pass (non-reentrant): memory for time.
        channels_last: train in that memory format, faster for small networks on the CPU and for half precision on GPUs.
    """

    optimizer: Callable[..., Optimizer]
    scheduler: Callable[[Optimizer], Any] | None = None
    schedule: Literal["epoch", "step"] = "epoch"
    scratch_lr: float = 3e-4
    freeze: tuple[str, ...] = ()
    fixed_norm: bool = False
    dice: float = 0.0
    checkpoint: bool = False
    channels_last: bool = False
