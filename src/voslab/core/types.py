"""Defines frames, masks and clips, the data types that all packages share.

Shape legend, used everywhere: B clips, T frames, O objects, C channels, H W pixels, h w feature cells.
Background is channel 0, objects are channels 1..O in slot order; the user's own ids live in `ObjectTable` only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

VOID = 255
"""Label of pixels that loss and metrics ignore."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class CodecData:
    """Data about a frame from the video stream.

    Attributes:
        type: frame type, `"I"`, `"P"` or `"B"`.
        motion: B 4 h w on a regular grid over the frame, displacement in pixels (x, y) to the past and (x, y) to the
            future reference, so that the reference lies at the pixel's own position plus it; 0 where a list is unused.
        references: B 2 h w on the same grid, int32, presentation indices of past and future reference; -1 where a list
            is unused.
        residual: B 1 H W, luma minus its motion-compensated prediction, in [-1, 1]. Readers give 0 where nothing is
            predicted, and `fill_intra_blocks` 1.
        live_refs: presentation indices of the frames that later frames in decode order may refer to; None if unknown.
        key: whether a base model segments the frame; None: as its type says (see `is_key`).
    """

    type: str
    motion: Tensor | None = None
    references: Tensor | None = None
    residual: Tensor | None = None
    live_refs: frozenset[int] | None = None
    key: bool | None = None

    @property
    def is_key(self) -> bool:
        """Whether a base model segments the frame: unless `key` decides, I- and P-frames."""
        return self.type != "B" if self.key is None else self.key


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A decoded frame at source size, as readers yield it. The engine converts it to a `Frame`.

    Attributes:
        index: presentation index, from 0.
        image: H W 3, RGB, uint8.
        codec: codec data; None for sources without.
        time: presentation time in seconds; None for sources without time stamps.
    """

    index: int
    image: NDArray[np.uint8]
    codec: CodecData | None = None
    time: Fraction | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of B clips, as networks take it.

    Attributes:
        index: presentation index.
        image: B 3 H W, RGB, float in [0, 1]; networks normalise it themselves.
        codec: codec data; None for sources without.
        key: whether it is a key frame, which a base model segments (always, for sources without codec data).
        truth: true masks of a key frame, for segmenters that need them (see `Segmenter.needs_truth`).
    """

    index: int
    image: Tensor
    codec: CodecData | None = None
    key: bool = True
    truth: Masks | None = None


@dataclass(frozen=True, slots=True)
class Masks:
    """Object masks of one frame.

    Attributes:
        probs: B O H W, hard or soft, in [0, 1]; O = 0 is legal.
        slot_mask: B O, bool: slots in use, per clip.
    """

    probs: Tensor
    slot_mask: Tensor

    @classmethod
    def from_labels(cls, labels: Tensor, slot_mask: Tensor) -> Masks:
        """Split a label map into one mask per object.

        Args:
            labels: B H W, 0 for background and 1..O for the slots; other labels are ignored.
            slot_mask: B O, bool, slots in use.

        Returns:
            masks with probs 0 or 1, float32.
        """
        slots = torch.arange(1, slot_mask.shape[1] + 1, device=labels.device).view(1, -1, 1, 1)
        return cls((labels.unsqueeze(1) == slots).float() * slot_mask[:, :, None, None], slot_mask)

    def with_probs(self, probs: Tensor) -> Masks:
        """Return masks of the same slots with other probs."""
        return replace(self, probs=probs)

    def append(self, new: Masks) -> Masks:
        """Append slots. Older objects are removed inside the masks of new ones.

        Args:
            new: masks B O' H W of the new slots.

        Returns:
            masks B (O+O') H W.
        """
        outside = (
            1 - (new.probs * new.slot_mask[:, :, None, None]).amax(1, keepdim=True) if new.slot_mask.shape[1] else 1.0
        )
        return Masks(torch.cat([self.probs * outside, new.probs], 1), torch.cat([self.slot_mask, new.slot_mask], 1))


@dataclass(frozen=True, slots=True)
class Clip:
    """A training batch. It is loaded as uint8, which takes less memory than the types that `unpacked` returns.

    Attributes:
        images: B T 3 H W, RGB, uint8; unpacked: float in [0, 1].
        labels: B T H W, uint8; unpacked: int64. 0 is background, 1..O are the slots, `VOID` is ignored.
        slot_mask: B O, bool: slots in use. The masks of frame 0 are given to the network.
        names: origin of each clip (sequence and frame indices), for error messages.
        skipped: errors of clips that could not be read and were replaced by others.
    """

    images: Tensor
    labels: Tensor
    slot_mask: Tensor
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> Clip:
        """Move all tensors; from page-locked memory to a GPU this does not wait."""
        tensors = (self.images, self.labels, self.slot_mask)
        images, labels, slot_mask = (t.to(device, non_blocking=t.device.type == "cpu") for t in tensors)
        return replace(self, images=images, labels=labels, slot_mask=slot_mask)

    def pin_memory(self) -> Clip:
        """Copy all tensors to page-locked memory, as a loader does with `pin_memory=True`."""
        images, labels, slot_mask = (t.pin_memory() for t in (self.images, self.labels, self.slot_mask))
        return replace(self, images=images, labels=labels, slot_mask=slot_mask)

    def unpacked(self) -> Clip:
        """Return the batch with float images and int64 labels."""
        return replace(self, images=self.images.float().div_(255), labels=self.labels.long())
