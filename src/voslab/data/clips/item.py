"""An augmented clip, and the batch of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from voslab.core import Clip


@dataclass(frozen=True)
class ClipItem:
    """An augmented clip.

    Attributes:
        images: Frames, T 3 H W uint8.
        labels: Slot maps, T H W uint8: 0 for background, slots from 1, and `VOID`.
        slot_mask: Which slots hold an object, O bool.
        name: Name of the video or images and indices of the frames, for messages.
        skipped: Reasons why the clips that this one replaces could not be read.
    """

    images: torch.Tensor
    labels: torch.Tensor
    slot_mask: torch.Tensor
    name: str
    skipped: tuple[str, ...] = ()


def collate(items: Sequence[ClipItem]) -> Clip:
    """Collate clips into a batch. All clips have the same number of slots.

    Args:
        items: B clips.

    Returns:
        Batch with images B T 3 H W uint8, labels B T H W uint8 and slot mask B O.
    """
    return Clip(
        images=torch.stack([item.images for item in items]),
        labels=torch.stack([item.labels for item in items]),
        slot_mask=torch.stack([item.slot_mask for item in items]),
        names=tuple(item.name for item in items),
        skipped=tuple(reason for item in items for reason in item.skipped),
    )
