"""State of XMem: what a video has left in the memories, and the encoding of its newest frame."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from voslab.core import Keys, Masks, State, state_dataclass
from voslab.nn.backbone import Pyramid
from voslab.nn.long_term_memory import LongTermMemory


class EncodedFrame(NamedTuple):
    """Parts of a frame's encoding that are used when it is memorised.

    Attributes:
        key: memory key B Ck h w.
        shrinkage: B 1 h w, at least 1.
        selection: B Ck h w, in (0, 1).
        f16: feature B C h w at stride 16.
    """

    key: Tensor
    shrinkage: Tensor
    selection: Tensor
    f16: Tensor


class Query(NamedTuple):
    """Output of the key encoder: features, key B Ck h w, shrinkage B 1 h w and selection B Ck h w."""

    features: Pyramid
    key: Tensor
    shrinkage: Tensor
    selection: Tensor


@state_dataclass
class XMemState(State):
    """State of a video: the memories, and the newest frame, which enters them at the next step.

    Attributes:
        memory: working and long-term memory of the frames before `image`.
        image: newest frame, B 3 H W.
        encoded: encoding of `image`; None for the first frame.
        masks: masks of `image`, after aggregation.
        sensory: sensory memory B O Ch h w before `image`.
        updated: sensory memory after the decoder's update by `image`; None: there was none.
        index: index of `image`, counted from the first frame of the state.
        last: index of the last memory frame; None: `image` is one.
        last_deep: index of the last frame with a deep update; None: there was none.
        given: whether masks of known objects were given for `image`.
        keys: key projections of the video; None: the network's own.
    """

    memory: LongTermMemory
    image: Tensor
    encoded: EncodedFrame | None
    masks: Masks
    sensory: Tensor
    updated: Tensor | None = None
    index: int = 0
    last: int | None = None
    last_deep: int | None = None
    given: bool = False
    keys: Keys | None = None
