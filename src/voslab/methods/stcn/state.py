"""State of a video in STCN, and the parts of a frame's encoding."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from voslab.core import Keys, Masks, State, state_dataclass
from voslab.nn.backbone import Pyramid
from voslab.nn.boxes import Box
from voslab.nn.memory import DenseMemory


class EncodedFrame(NamedTuple):
    """Parts of a frame's encoding that are used when it is memorised.

    Attributes:
        key: memory key B Ck h w.
        features: features that the value encoder uses, stride 16 last.
        box: cells at stride 16 that were encoded; None: the whole frame.
    """

    key: Tensor
    features: tuple[Tensor, ...]
    box: Box | None = None

    @property
    def f16(self) -> Tensor:
        """Feature B C h w at stride 16."""
        return self.features[-1]


@state_dataclass
class STCNState(State):
    """State of a video: the memory, and the newest frame, which enters the memory at the next step.

    Attributes:
        memory: keys and values of the frames before `image`.
        image: newest frame, B 3 H W.
        encoded: encoding of `image`; None for the first frame.
        masks: masks of `image`, after aggregation.
        index: index of `image`, counted from the first frame of the state.
        given: whether masks of known objects were given for `image`.
        last: index of the last frame that was retained in the memory; None: retain `image`.
        keys: key projections of the video; None: the network's own.
    """

    memory: DenseMemory
    image: Tensor
    encoded: EncodedFrame | None
    masks: Masks
    index: int = 0
    last: int | None = None
    given: bool = False
    keys: Keys | None = None


class Query(NamedTuple):
    """Output of the key encoder: features, key B Ck h w, and `thin` B Cv h w for the decoder."""

    features: Pyramid
    key: Tensor
    thin: Tensor

    def cut(self, box: Box) -> Query:
        """Return the part of a whole frame in a box of cells at stride 16."""
        f4, f8, f16 = self.features
        return Query(Pyramid(box.cut(f4, 4), box.cut(f8, 2), box.cut(f16)), box.cut(self.key), box.cut(self.thin))
