"""Training settings of a method, from `model.training` in the configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch.optim import Optimizer


@dataclass(frozen=True, slots=True)
class Recipe:
    """Training settings that all methods share.

    Attributes:
        optimizer: factory of the optimiser, called with the parameters to train.
        scheduler: factory of the scheduler, called with the optimiser; None for a constant learning rate.
        schedule: whether the scheduler steps per epoch or per optimiser step.
        warmup: number of optimiser steps in which the learning rate rises linearly to that of the schedule, which the
            logged rate is; 0: none.
        encoder_lr_scale: factor of the learning rate of the submodule `encoder`; used only if weights were loaded.
        decay_all: whether weight decay also applies to biases, normalisation and other vectors.
        freeze: submodules that are not trained and whose batch norm keeps its statistics; used only if weights were
            loaded.
        freeze_encoder_stages: number of layers of `encoder` that are frozen like `freeze`, with its stem; 0: none.
        freeze_bn: whether all batch norm keeps its statistics; used only if weights were loaded.
        dice: weight of a soft Dice loss added to the method's loss; 0 (as published) for none.
        checkpoint: whether activations are recomputed in the backward pass (non-reentrant), which saves memory.
        channels_last: whether to train in this memory format, which is faster for small networks on the CPU and for
            half precision on GPUs.
        fused: whether the optimiser updates all parameters in one kernel on CUDA, where its class offers that and
            gradients are not clipped in mixed precision; the result differs by rounding.
        compile: whether the step is compiled with `torch.compile`. The first steps are slow, and each number of frames
            in the memory compiles anew.
    """

    optimizer: Callable[..., Optimizer]
    scheduler: Callable[[Optimizer], Any] | None = None
    schedule: Literal["epoch", "step"] = "epoch"
    warmup: int = 0
    encoder_lr_scale: float = 1.0
    decay_all: bool = True
    freeze: tuple[str, ...] = ()
    freeze_encoder_stages: int = 0
    freeze_bn: bool = False
    dice: float = 0.0
    checkpoint: bool = False
    channels_last: bool = False
    fused: bool = True
    compile: bool = False

    def frozen_modules(self) -> tuple[str, ...]:
        """Return the names of the submodules that are frozen if weights are loaded."""
        stages = [f"layer{number}" for number in range(1, self.freeze_encoder_stages + 1)]
        return (*self.freeze, *(f"encoder.{part}" for part in ("conv1", "bn1", *stages) if stages))
