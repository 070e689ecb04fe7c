"""NaN and infinity end the training at the step where they appear, before anything is saved."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

from voslab.core import VOSError

log = logging.getLogger(__name__)


class NotFiniteError(VOSError):
    """Loss, gradients or weights are NaN or infinite. The command line exits with code 3."""


class FiniteGuard(L.Callback):
    """Looks at loss, gradients and weights of every step.

    With half precision's loss scaling, gradients may overflow, which the scaler answers by itself; only loss and
    weights count there.

    Args:
        skip: so many optimisation steps with a NaN or infinite loss or gradient may be left out instead.
    """

    def __init__(self, skip: int = 0) -> None:
        self.skip = skip
        self.skipped = 0
        self._names: list[str] = []
        self._bad: list[str] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember whose clips these are."""
        self._names += _names(batch, batch_idx)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Look at the loss; what it means is decided when all processes are here."""
        if not bool(torch.isfinite(loss)):
            self._bad.append("loss")

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Look at the gradients.

        Raises:
            NotFiniteError: in all processes, if one has a bad loss or gradient and none more may be skipped.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        if not self._bad and not scaled and not finite(p.grad for p in parameters):
            self._bad.append("gradient")
        names, what = self._names, self._bad
        self._names, self._bad = [], []
        if not trainer.strategy.reduce_boolean_decision(bool(what), all=False):
            return
        message = f"{_together(trainer, what)} at step {trainer.global_step}, clips {_together(trainer, names)}"
        if self.skipped >= self.skip:
            raise NotFiniteError(f"NaN or infinite {message}; checkpoints hold the state before it")
        self.skipped += 1
        log.warning("skipped %d of %d: NaN or infinite %s", self.skipped, self.skip, message)
        for parameter in parameters:
            parameter.grad = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at weights and running statistics, before they are saved. Raises `NotFiniteError` in all processes."""
        if trainer.fit_loop._should_accumulate():
            return
        tensors = [t for t in (*pl_module.parameters(), *pl_module.buffers()) if t.is_floating_point()]
        if trainer.strategy.reduce_boolean_decision(not finite(t.detach() for t in tensors), all=False):
            names = _together(trainer, _names(batch, batch_idx))
            raise NotFiniteError(
                f"NaN or infinite weights at step {trainer.global_step - 1}, clips {names};"
                " checkpoints hold the state before it"
            )

    def state_dict(self) -> dict[str, Any]:
        """How many were skipped."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = state_dict["skipped"]


def finite(tensors: Iterable[Tensor | None]) -> bool:
    """Whether all entries of all tensors are neither NaN nor infinite.

    >>> finite([torch.ones(2), torch.zeros(0)]), finite([torch.ones(2), torch.tensor([1.0, float("nan")])])
    (True, False)
    """
    full = [tensor for tensor in tensors if tensor is not None and tensor.numel()]
    if not full:
        return True
    # A sum is quick and never hides anything, but may overflow; the largest magnitude cannot.
    if bool(torch.isfinite(torch.stack([tensor.sum().float() for tensor in full]).sum())):
        return True
    largest = torch.stack([norm.float() for norm in torch._foreach_norm(full, float("inf"))])
    return bool(torch.isfinite(largest).all())


def _together(trainer: L.Trainer, mine: Iterable[str]) -> str:
    """What all processes have to say."""
    everybody: list[Any] = [list(mine)]
    if trainer.world_size > 1:
        everybody = [None] * trainer.world_size
        dist.all_gather_object(everybody, list(mine))
    return "; ".join(dict.fromkeys(word for words in everybody for word in words))


def _names(batch: Any, index: int) -> list[str]:
    """Of its clips or samples; of a batch without names, which one it is."""
    return list(getattr(batch, "names", (f"batch {index}",)))
