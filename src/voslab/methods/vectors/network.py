"""Propagates masks along the codec's motion vectors, without looking at the images.

Shapes: B clips, O objects.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import CodecData, Frame, Masks, Segmenter, State, state_dataclass
from voslab.core.segmenter import Padding
from voslab.core.warp import warp
from voslab.nn.aggregation import LIMIT, aggregate_min


@state_dataclass
class BufferedMasks(State):
    """Masks of a frame that later ones may refer to.

    Attributes:
        index: presentation index.
        probs: B O H W, 0 or 1; 0 for objects that were added later.
    """

    index: int
    probs: Tensor


@state_dataclass
class VectorsState(State):
    """Buffered masks in decode order, and the slots in use, B O."""

    buffered: list[BufferedMasks]
    slot_mask: Tensor


class Vectors(Segmenter[VectorsState]):
    """Copies the masks of the pixel that each motion vector points to.

    Pixels without a reference, or with one that is no longer buffered, keep the masks of the previous frame; so do
    frames without vectors.

    Args:
        buffer: number of buffered frames, unless `retain` says which are referenced; H.264 allows at most 16.

    Raises:
        ValueError: if `buffer` is less than 1.
    """

    stride = 1
    padding: Padding = "zeros"

    def __init__(self, buffer: int = 17) -> None:
        super().__init__()
        if buffer < 1:
            raise ValueError(f"buffer={buffer} must be at least 1")
        self.buffer = buffer

    def begin(self, frame: Frame, masks: Masks) -> VectorsState:
        """See `Segmenter.begin`."""
        return VectorsState([BufferedMasks(frame.index, masks.probs)], masks.slot_mask)

    def step(self, frame: Frame, state: VectorsState) -> tuple[Tensor, VectorsState]:
        """See `Segmenter.step`. Frames come in decode order."""
        earlier = [entry for entry in state.buffered if entry.index < frame.index] or state.buffered
        probs = max(earlier, key=lambda entry: entry.index).probs
        if frame.codec is not None and frame.codec.motion is not None and frame.codec.references is not None:
            probs = follow(state.buffered, frame.codec, probs)
        buffered = [*state.buffered, BufferedMasks(frame.index, probs)][-self.buffer :]
        return aggregate_min((2 * probs - 1) * LIMIT, state.slot_mask), VectorsState(buffered, state.slot_mask)

    def retain(self, state: VectorsState, indices: Collection[int]) -> VectorsState:
        """See `ReferenceBuffered.retain`. The frames decoded last and presented last stay too."""
        kept = {*indices, state.buffered[-1].index, max(entry.index for entry in state.buffered)}
        return VectorsState([entry for entry in state.buffered if entry.index in kept], state.slot_mask)

    def add(self, frame: Frame, masks: Masks, state: VectorsState, known: Masks | None = None) -> VectorsState:
        """See `Segmenter.add`."""
        last = state.buffered[-1]
        old = known or Masks(last.probs, state.slot_mask)
        joined = old.append(masks)
        padding, in_use = (0, 0, 0, 0, 0, masks.probs.shape[1]), old.slot_mask[:, :, None, None]
        before = [BufferedMasks(entry.index, F.pad(entry.probs * in_use, padding)) for entry in state.buffered[:-1]]
        return VectorsState([*before, BufferedMasks(last.index, joined.probs)], joined.slot_mask)


def follow(buffered: list[BufferedMasks], codec: CodecData, unmoved: Tensor) -> Tensor:
    """Warp masks along motion vectors, at the nearest pixel. The past reference takes precedence.

    Args:
        buffered: masks of the frames that vectors may refer to.
        codec: motion and references, at the size of the masks or at a quarter of it.
        unmoved: B O H W, values of the pixels without a usable reference.

    Returns:
        B O H W.
    """
    height, width = unmoved.shape[-2:]
    assert codec.motion is not None, "a frame without vectors has no motion to follow"
    assert codec.references is not None, "vectors need references"
    motion = F.interpolate(codec.motion.to(unmoved.device, torch.float32), (height, width), mode="nearest-exact")
    references = codec.references.to(unmoved.device, torch.float32)
    references = F.interpolate(references, (height, width), mode="nearest-exact")
    masks = {entry.index: entry.probs for entry in buffered}
    warped, used = warp(masks, motion, references.int(), rounding="half_even", combine="past")
    return torch.where(used, warped, unmoved)
