"""State of Cutie: what a video has left in the memories, and the encoding of its newest frame."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from voslab.core import Keys, Masks, State, state_dataclass
from voslab.methods.cutie.memory import BucketMemory
from voslab.nn.backbone import Pyramid


class EncodedFrame(NamedTuple):
    """Parts of a frame's encoding that are used when it is memorised.

    Attributes:
        key: memory key B Ck h w.
        shrinkage: B 1 h w, at least 1.
        selection: B Ck h w, in (0, 1).
        key_input: input B C h w of the key projection.
        pixel: pixel feature B C h w.
    """

    key: Tensor
    shrinkage: Tensor
    selection: Tensor
    key_input: Tensor
    pixel: Tensor


class Query(NamedTuple):
    """Output of the pixel encoder: features at strides 4, 8 and 16, and the parts of `EncodedFrame`, as a query."""

    features: Pyramid
    key: Tensor
    shrinkage: Tensor
    selection: Tensor
    key_input: Tensor
    pixel: Tensor


@state_dataclass
class CutieState(State):
    """State of a video: the memories, and the newest frame, which enters them at the next step.

    Attributes:
        memory: pixel memory of the frames before `image`.
        objects: object memory B O Q C+1: sum of the object summaries of the memory frames before `image`.
        image: newest frame, B 3 H W.
        encoded: encoding of `image`; None for the first frame.
        masks: masks of `image`, after aggregation.
        sensory: sensory memory B O Cs h w, after the decoder's update by `image` if it made one.
        index: index of `image`, counted from the first frame of the state.
        last: index of the last memory frame; None: `image` is one.
        deep: whether there was a deep update of the sensory memory.
        given: whether masks of known objects were given for `image`.
        keys: key projections of the video; None: the network's own.
        auxiliary: in training, the log-odds B L O h w of the masks that intermediate features predict for `image`.
    """

    memory: BucketMemory
    objects: Tensor
    image: Tensor
    encoded: EncodedFrame | None
    masks: Masks
    sensory: Tensor
    index: int = 0
    last: int | None = None
    deep: bool = False
    given: bool = False
    keys: Keys | None = None
    auxiliary: Tensor | None = None
