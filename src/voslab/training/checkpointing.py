"""Recomputes activations of a step in the backward pass, and writes checkpoint files atomically."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voslab.core import Frame, Segmenter, atomic_path

Step = Callable[[Frame, Any], tuple[Tensor, Any]]


def recompute(segmenter: Segmenter[Any]) -> Step:
    """Return the segmenter's `step` with activation checkpointing: only its inputs are kept for the backward pass.

    The second run in the backward pass does not update the running statistics of batch norm, so each step counts once.

    Args:
        segmenter: the network.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _frozen_statistics(segmenter)

    def step(frame: Frame, state: Any) -> tuple[Tensor, Any]:
        result: tuple[Tensor, Any] = checkpoint(
            segmenter.step, frame, state, use_reentrant=False, context_fn=contexts, preserve_rng_state=True
        )
        return result

    return step


@contextmanager
def _frozen_statistics(network: nn.Module) -> Iterator[None]:
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked = layer.num_batches_tracked.clone()
    try:
        yield
    finally:
        for layer, (momentum, count) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, count


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a temporary file and renames it, so that a full disk or a kill keeps the previous checkpoint intact."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """See `TorchCheckpointIO.save_checkpoint`.

        Raises:
            WriteError: if the file cannot be written.
        """
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
