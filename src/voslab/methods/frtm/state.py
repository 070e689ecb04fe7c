"""State of FRTM: the target models of the objects, and the newest frame, which enters their memories next."""

from __future__ import annotations

from torch import Tensor

from voslab.core import Masks, State, state_dataclass
from voslab.methods.frtm.target import Target


@state_dataclass
class FRTMState(State):
    """State of a video.

    Attributes:
        targets: target model of each slot of each clip; None for slots that never had a mask.
        f16: feature B C h w at stride 16 of the newest frame.
        probs: probabilities B O H W of the newest frame before they are merged.
        masks: merged masks of the newest frame, which the memories will store.
        started: whether the object of each slot began on the newest frame, per clip; it is not memorised.
        given: whether the mask of each slot on the newest frame was given, per clip.
    """

    targets: list[list[Target | None]]
    f16: Tensor
    probs: Tensor
    masks: Masks
    started: list[list[bool]]
    given: list[list[bool]]
