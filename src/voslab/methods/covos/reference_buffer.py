"""Buffers the frames that later B-frames may refer to.

Shapes: B clips, O objects, C channels, h w cells of a grid at a quarter of the frame's size.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import Masks, State, state_dataclass
from voslab.methods.covos.codec_fields import STRIDE


@state_dataclass
class BufferedFrame(State):
    """A frame that later ones may refer to: T = [V, P] of Eq. 6.

    Attributes:
        index: presentation index.
        key: whether the base model processed it.
        probs: P, B O h w without background: the output of the base for key frames, else the propagated masks before
            decoding. Objects that were added later are missing.
        features: V, B C h w: computed from the image for key frames, else warped; None if not computed yet.
        image: B 3 H W, from which the features of a key frame are computed on demand.
    """

    index: int
    key: bool
    probs: Tensor
    features: Tensor | None = None
    image: Tensor | None = None

    def pad_objects(self, objects: int) -> Tensor:
        """Return the probs for `objects` objects, 0 for those that were added later."""
        return F.pad(self.probs, (0, 0, 0, 0, 0, objects - self.probs.shape[1]))

    def without_unused(self, slot_mask: Tensor) -> BufferedFrame:
        """Return the frame without objects whose slot (B O) is not in use."""
        return replace(self, probs=self.probs * slot_mask[:, : self.probs.shape[1], None, None])


def remember(frames: list[BufferedFrame], new: BufferedFrame, most: int) -> list[BufferedFrame]:
    """Append a frame; keep the two newest key frames and the newest `most` other frames."""
    frames = [*(frame for frame in frames if frame.index != new.index), new]
    newest = _newest_keys(frames)
    others = [frame.index for frame in frames if frame.index not in newest]
    return retain(frames, others[max(0, len(others) - most) :])


def retain(frames: list[BufferedFrame], indices: Collection[int]) -> list[BufferedFrame]:
    """Keep the frames with these indices and the two newest key frames, which corrections are matched with."""
    kept = _newest_keys(frames).union(indices)
    return [frame for frame in frames if frame.index in kept]


def nearest_key(frames: list[BufferedFrame], index: int) -> BufferedFrame:
    """Return the key frame nearest in presentation order; the earlier one of two equally near."""
    keys = [frame for frame in frames if frame.key]
    return min(keys, key=lambda frame: (abs(frame.index - index), frame.index))


def with_background(masks: Masks) -> Tensor:
    """Convert masks B O H W to a distribution B (O+1) H W, background first."""
    probs = masks.probs * masks.slot_mask[:, :, None, None]
    return torch.cat([(1 - probs.sum(1, keepdim=True)).clamp(min=0), probs], 1)


def reduce(probabilities: Tensor, hard_labels: bool) -> Tensor:
    """Reduce probabilities of a key frame to the quarter grid.

    Args:
        probabilities: B (O+1) H W.
        hard_labels: Return the most likely label as 0 or 1; otherwise the probabilities.

    Returns:
        B O h w.
    """
    small = F.interpolate(probabilities, scale_factor=1 / STRIDE, mode="bilinear", align_corners=False)
    if not hard_labels:
        return small[:, 1:]
    slots = torch.arange(1, small.shape[1], device=small.device).view(1, -1, 1, 1)
    return (small.argmax(1, keepdim=True) == slots).to(small.dtype)


def _newest_keys(frames: list[BufferedFrame]) -> set[int]:
    return set([frame.index for frame in frames if frame.key][-2:])
