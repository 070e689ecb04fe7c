"""Frames, masks and clips, the data types of the contract.

Shape legend, used everywhere: B clips, T frames, O objects, C channels, H W pixels, h w feature cells.
Background is channel 0, objects are channels 1..O in slot order; the user's own ids live in `ObjectTable` only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

VOID = 255
"""Label of pixels that neither loss nor metric looks at, where a source declares them."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class CodecData:
    """What the codec knew about a frame.

    Attributes:
        type: picture type, `"I"`, `"P"` or `"B"`.
        motion: B 4 h w on a regular grid over the frame, displacement in pixels (x, y) to the past and (x, y) to the
            future reference, so that the reference lies at the pixel's own position plus it; 0 where a list is unused.
        references: B 2 h w on the same grid, int32, presentation indices of past and future reference; -1 where a list
            is unused.
        residual: B 1 H W, luma minus its motion-compensated prediction, in [-1, 1]; 0 where nothing is predicted.
        live_refs: presentation indices of the frames that those decoded later may refer to, itself among them or not;
            None: not known.
    """

    type: str
    motion: Tensor | None = None
    references: Tensor | None = None
    residual: Tensor | None = None
    live_refs: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class RawFrame:
    """One decoded picture at its source size: what readers yield and the engine turns into a `Frame`.

    Attributes:
        index: presentation index, from 0.
        image: H W 3, RGB, uint8.
        coded: codec side data, None for plain sources.
    """

    index: int
    image: NDArray[np.uint8]
    codec: CodecData | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of B clips.

    Attributes:
        index: presentation index.
        image: B 3 H W, RGB, float in [0, 1]; networks normalise it themselves.
        coded: codec side data, None for plain sources.
        key: whether a base model must look at it (always, for plain sources).
    """

    index: int
    image: Tensor
    codec: CodecData | None = None
    key: bool = True


@dataclass(frozen=True, slots=True)
class Masks:
    """Object masks of one frame.

    Attributes:
        probs: B O H W, hard or soft, in [0, 1]; O = 0 is legal.
        slot_mask: B O, bool: the slot is in use in that clip.
    """

    probs: Tensor
    slot_mask: Tensor

    @classmethod
    def from_labels(cls, labels: Tensor, slot_mask: Tensor) -> Masks:
        """Split a slot label map (B H W, 0 background, 1..O objects, other labels ignored) into float masks."""
        slots = torch.arange(1, slot_mask.shape[1] + 1, device=labels.device).view(1, -1, 1, 1)
        return cls((labels.unsqueeze(1) == slots).float() * slot_mask[:, :, None, None], slot_mask)

    def with_probs(self, probs: Tensor) -> Masks:
        """The same slots with other probs."""
        return replace(self, probs=probs)

    def append(self, new: Masks) -> Masks:
        """Add slots behind the existing ones; inside a new object's mask every older object gives way."""
        keep = (
            1 - (new.probs * new.slot_mask[:, :, None, None]).amax(1, keepdim=True) if new.slot_mask.shape[1] else 1.0
        )
        return Masks(torch.cat([self.probs * keep, new.probs], 1), torch.cat([self.slot_mask, new.slot_mask], 1))


@dataclass(frozen=True, slots=True)
class Clip:
    """A training batch: bytes as loaded, a quarter and an eighth of what networks and losses take (`unpacked`).

    Attributes:
        images: B T 3 H W, RGB; uint8, unpacked float in [0, 1].
        labels: B T H W; uint8, unpacked int64: 0 background, 1..O objects by slot, `VOID` where loss and metric must
            not look.
        slot_mask: B O, bool: slots in use. An object's mask is given in frame 0.
        names: per clip, where it came from (sequence and frame indices), for error messages.
        skipped: why clips that should be here could not be read and others stand in for them.
    """

    images: Tensor
    labels: Tensor
    slot_mask: Tensor
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> Clip:
        """Move all tensors."""
        images, labels, slot_mask = (tensor.to(device) for tensor in (self.images, self.labels, self.slot_mask))
        return replace(self, images=images, labels=labels, slot_mask=slot_mask)

    def unpacked(self) -> Clip:
        """Images as floats, labels as int64."""
        return replace(self, images=self.images.float().div_(255), labels=self.labels.long())
