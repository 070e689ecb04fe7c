"""Divides the global batch of a training step among processes and accumulated passes."""

from __future__ import annotations

from dataclasses import dataclass

from voslab.core import ConfigError


@dataclass(frozen=True, slots=True)
class BatchShare:
    """How one optimisation step processes its global batch.

    Attributes:
        processes: Number of processes.
        clips: Clips per process and forward pass.
        passes: Forward passes of a process whose gradients are accumulated.

    Example:
        >>> str(BatchShare(processes=2, clips=1, passes=4))
        'global batch 8 = 2 processes x 1 clip x 4 accumulated passes'
    """

    processes: int
    clips: int
    passes: int

    @property
    def batch(self) -> int:
        """Number of clips per optimisation step."""
        return self.processes * self.clips * self.passes

    def __str__(self) -> str:
        parts = [(self.processes, "process", "es"), (self.clips, "clip", "s"), (self.passes, "accumulated pass", "es")]
        counted = " x ".join(f"{count} {unit}{plural if count > 1 else ''}" for count, unit, plural in parts)
        return f"global batch {self.batch} = {counted}"


def share_batch(batch: int, processes: int, most: int | None = None) -> BatchShare:
    """Divide a global batch equally, with as many clips per forward pass as allowed.

    Args:
        batch: Clips per optimisation step, over all processes together.
        processes: Number of processes.
        most: Maximum number of clips per process and forward pass; None for no maximum.

    Raises:
        ConfigError: If the batch is not divisible by the number of processes.

    Example:
        >>> share_batch(16, processes=2, most=3)
        BatchShare(processes=2, clips=2, passes=4)
    """
    if batch % processes:
        fewer = next(count for count in range(min(batch, processes), 0, -1) if batch % count == 0)
        larger = -(-batch // processes) * processes
        raise ConfigError(
            f"batch_size={batch} is the batch of all {processes} processes together and is not divisible by"
            f" {processes}: use {fewer} {'process' if fewer == 1 else 'processes'} (trainer.devices), or train with"
            f" another batch (data.batch_size={larger})"
        )
    share = batch // processes
    clips = next(count for count in range(min(share, most or share), 0, -1) if share % count == 0)
    return BatchShare(processes, clips, share // clips)
