"""Pictures that later ones may refer to, and what is carried from them.

Shapes: B clips, O objects, C channels, h w cells of a grid at a quarter of the frame's size.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import Masks, State, state
from voslab.methods.covos.codec_fields import STRIDE


@state
class BufferedFrame(State):
    """A picture that later ones may refer to: T = [V, P] of Eq. 6.

    Attributes:
        index: presentation index.
        key: whether the base looked at it.
        probs: P, B O h w without background: the base's on key frames, else as carried here, not decoded. Objects
            that were added later have none.
        features: V, B C h w: its own on key frames, else as carried here; None: not asked for.
        image: B 3 H W that a key frame's features are computed of, once they are asked for.
    """

    index: int
    key: bool
    probs: Tensor
    features: Tensor | None = None
    image: Tensor | None = None

    def pad_objects(self, objects: int) -> Tensor:
        """Its probs, 0 for objects that were added later."""
        return F.pad(self.probs, (0, 0, 0, 0, 0, objects - self.probs.shape[1]))


def remember(pictures: list[BufferedFrame], new: BufferedFrame, most: int) -> list[BufferedFrame]:
    """Add a picture; the two newest key frames stay, and the newest `most` of the others."""
    pictures = [*(picture for picture in pictures if picture.index != new.index), new]
    newest = _newest_keys(pictures)
    others = [picture.index for picture in pictures if picture.index not in newest]
    return retain(pictures, others[max(0, len(others) - most) :])


def retain(pictures: list[BufferedFrame], indices: Collection[int]) -> list[BufferedFrame]:
    """Those with these indices, and the two newest key frames, which corrections are matched with."""
    kept = _newest_keys(pictures).union(indices)
    return [picture for picture in pictures if picture.index in kept]


def nearest_key(pictures: list[BufferedFrame], index: int) -> BufferedFrame:
    """The key frame nearest in presentation order; of two equally near, the earlier."""
    keys = [picture for picture in pictures if picture.key]
    return min(keys, key=lambda picture: (abs(picture.index - index), picture.index))


def with_background(masks: Masks) -> Tensor:
    """Given masks B O H W as a distribution B (O+1) H W."""
    probs = masks.probs * masks.slot_mask[:, :, None, None]
    return torch.cat([(1 - probs.sum(1, keepdim=True)).clamp(min=0), probs], 1)


def reduce(probabilities: Tensor, hard: bool) -> Tensor:
    """Probabilities B (O+1) H W -> probs B O h w of a key frame: the likeliest label alone, or as they are."""
    small = F.interpolate(probabilities, scale_factor=1 / STRIDE, mode="bilinear", align_corners=False)
    if not hard:
        return small[:, 1:]
    slots = torch.arange(1, small.shape[1], device=small.device).view(1, -1, 1, 1)
    return (small.argmax(1, keepdim=True) == slots).to(small.dtype)


def _newest_keys(pictures: list[BufferedFrame]) -> set[int]:
    return set([picture.index for picture in pictures if picture.key][-2:])
