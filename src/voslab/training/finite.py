"""Stops training at the first NaN or infinite loss, gradient or weight, before a checkpoint is written."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Annotated, Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

from voslab.core import VOSError
from voslab.core.parameters import Range

log = logging.getLogger(__name__)


class NotFiniteError(VOSError):
    """Loss, gradients or weights are NaN or infinite. The command line exits with code 3."""


class FiniteGuard(L.Callback):
    """Checks loss, gradients and weights of every step.

    With the loss scaling of fp16, the scaler handles overflowing gradients; only loss and weights are checked.

    Args:
        skip: maximum number of optimiser steps that are skipped because of a NaN or infinite loss or gradient.
    """

    def __init__(self, skip: Annotated[int, Range(0)] = 0) -> None:
        self.skip = skip
        self.skipped = 0
        self._names: list[str] = []
        self._bad: list[str] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the names of the clips."""
        self._names += _names(batch, batch_idx)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Check the loss; all processes decide together before the optimiser step."""
        if not bool(torch.isfinite(loss)):
            self._bad.append("loss")

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Check the gradients.

        Raises:
            NotFiniteError: in all processes, if one has a bad loss or gradient and no more steps may be skipped.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        if not self._bad and not scaled and not all_finite(p.grad for p in parameters):
            self._bad.append("gradient")
        names, what = self._names, self._bad
        self._names, self._bad = [], []
        if not trainer.strategy.reduce_boolean_decision(bool(what), all=False):
            return
        message = f"{_gather(trainer, what)} at step {trainer.global_step}, clips {_gather(trainer, names)}"
        if self.skipped >= self.skip:
            raise NotFiniteError(f"NaN or infinite {message}; checkpoints hold the state before it")
        self.skipped += 1
        log.warning("skipped %d of %d: NaN or infinite %s", self.skipped, self.skip, message)
        for parameter in parameters:
            parameter.grad = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check weights and running statistics before they are saved.

        Raises:
            NotFiniteError: in all processes, if one has a bad value.
        """
        if trainer.fit_loop._should_accumulate():
            return
        tensors = [t for t in (*pl_module.parameters(), *pl_module.buffers()) if t.is_floating_point()]
        if trainer.strategy.reduce_boolean_decision(not all_finite(t.detach() for t in tensors), all=False):
            names = _gather(trainer, _names(batch, batch_idx))
            raise NotFiniteError(
                f"NaN or infinite weights at step {trainer.global_step - 1}, clips {names};"
                " checkpoints hold the state before it"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the number of skipped steps."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of skipped steps."""
        self.skipped = state_dict["skipped"]


def all_finite(tensors: Iterable[Tensor | None]) -> bool:
    """Return whether no entry of any tensor is NaN or infinite.

    Args:
        tensors: tensors of any shape; None is skipped.

    Example:
        >>> all_finite([torch.ones(2), torch.zeros(0)]), all_finite([torch.ones(2), torch.tensor([1.0, float("nan")])])
        (True, False)
    """
    full = [tensor for tensor in tensors if tensor is not None and tensor.numel()]
    if not full:
        return True
    # A sum is fast and propagates NaN and infinity, but may overflow; then check the largest magnitude.
    if bool(torch.isfinite(torch.stack([tensor.sum().float() for tensor in full]).sum())):
        return True
    largest = torch.stack([norm.float() for norm in torch._foreach_norm(full, float("inf"))])
    return bool(torch.isfinite(largest).all())


def _gather(trainer: L.Trainer, own: Iterable[str]) -> str:
    """Join the words of all processes."""
    gathered: list[Any] = [list(own)]
    if trainer.world_size > 1:
        gathered = [None] * trainer.world_size
        dist.all_gather_object(gathered, list(own))
    return "; ".join(dict.fromkeys(word for words in gathered for word in words))


def _names(batch: Any, index: int) -> list[str]:
    """Return the names of a batch's clips or samples, or the batch's number if it has no names."""
    return list(getattr(batch, "names", (f"batch {index}",)))
