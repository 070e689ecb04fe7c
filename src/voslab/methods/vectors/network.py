"""The floor of what a codec knows: given masks follow its motion vectors, and nobody looks at a picture.

Shapes: B clips, O objects.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import CodecData, Frame, Masks, State, state
from voslab.core.segmenter import Padding
from voslab.nn.aggregation import LIMIT, aggregate_min


@state
class Seen(State):
    """The masks of a picture that later ones may refer to.

    Attributes:
        index: presentation index.
        probs: B O H W, 0 or 1; 0 of objects that were added later.
    """

    index: int
    probs: Tensor


@state
class VectorsState(State):
    """Pictures in decode order, and the slots in use, B O."""

    pictures: list[Seen]
    slot_mask: Tensor


class Vectors(nn.Module):
    """Every pixel takes the masks of where its vector points, in the picture that it names.

    Pixels that are predicted from nothing, or from a picture that is forgotten, keep what was there in the picture
    before; so do whole pictures without vectors.

    Args:
        buffer: pictures that are remembered, where a stream does not tell which it still refers to; no H.264 stream
            refers to more than 16.
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
        return VectorsState([Seen(frame.index, masks.probs)], masks.slot_mask)

    def step(self, frame: Frame, state: VectorsState) -> tuple[Tensor, VectorsState]:
        """See `Segmenter.step`. Frames come in decode order."""
        earlier = [seen for seen in state.pictures if seen.index < frame.index] or state.pictures
        probs = max(earlier, key=lambda seen: seen.index).probs
        if frame.codec is not None and frame.codec.motion is not None and frame.codec.references is not None:
            probs = follow(state.pictures, frame.codec, probs)
        pictures = [*state.pictures, Seen(frame.index, probs)][-self.buffer :]
        return aggregate_min((2 * probs - 1) * LIMIT, state.slot_mask), VectorsState(pictures, state.slot_mask)

    def retain(self, state: VectorsState, indices: Collection[int]) -> VectorsState:
        """See `ReferenceBuffered.keep`. Those decoded and shown last stay too, as the next picture may rest on them."""
        kept = {*indices, state.pictures[-1].index, max(seen.index for seen in state.pictures)}
        return VectorsState([seen for seen in state.pictures if seen.index in kept], state.slot_mask)

    def add(self, frame: Frame, masks: Masks, state: VectorsState) -> VectorsState:
        """See `Segmenter.add`."""
        last = state.pictures[-1]
        joined = Masks(last.probs, state.slot_mask).append(masks)
        room = (0, 0, 0, 0, 0, masks.probs.shape[1])
        before = [Seen(seen.index, F.pad(seen.probs, room)) for seen in state.pictures[:-1]]
        return VectorsState([*before, Seen(last.index, joined.probs)], joined.slot_mask)


def follow(pictures: list[Seen], codec: CodecData, unmoved: Tensor) -> Tensor:
    """Masks B O H W read where vectors point, at the nearest pixel; positions outside read the border.

    Args:
        pictures: that vectors may lead to.
        coded: with motion and references, at the size of the masks or at a quarter of it.
        unmoved: B O H W, what pixels hold that no vector serves. The past reference goes before the future one.
    """
    height, width = unmoved.shape[-2:]
    assert codec.motion is not None, "a picture without vectors does not move"
    assert codec.references is not None, "vectors lead to pictures"
    motion = F.interpolate(codec.motion.to(unmoved.device, torch.float32), (height, width), mode="nearest-exact")
    references = codec.references.to(unmoved.device, torch.float32)
    references = F.interpolate(references, (height, width), mode="nearest-exact")
    down = torch.arange(height, device=unmoved.device).view(-1, 1)
    right = torch.arange(width, device=unmoved.device)
    out = unmoved
    for which in (1, 0):
        x, y = motion[:, 2 * which], motion[:, 2 * which + 1]
        row, column = (down + y).round().clamp(0, height - 1), (right + x).round().clamp(0, width - 1)
        place = (row * width + column).long().flatten(1).unsqueeze(1).expand(-1, out.shape[1], -1)
        for seen in pictures:
            named = (references[:, which] == seen.index).unsqueeze(1)
            if not named.any():
                continue
            out = torch.where(named, seen.probs.flatten(2).gather(2, place).view_as(out), out)
    return out
