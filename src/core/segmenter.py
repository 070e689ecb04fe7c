"""The one contract: a method is a `Segmenter`, and whoever runs or wraps one needs to know no more than this file."""

from __future__ import annotations

from typing import Literal, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from src.core.state import State
from src.core.types import Frame, Masks

S = TypeVar("S", bound=State)
Padding = Literal["zeros", "mean", "reflect"]


@runtime_checkable
class Segmenter(Protocol[S]):
    """Carries the masks of one frame through a video. It keeps nothing of a video in itself: that is the state's.

    A frame enters the memory at the *start of the next* `step`, from the features and final masks that the state holds,
    so `add` can still correct them and the last frame is never memorised.

    Attributes:
        stride: frames are padded to a multiple of it.
        padding: what the padding holds: `zeros` before normalisation, the `mean` colour (zero after normalisation),
            or a `reflect`ion of image and masks.
    """

    stride: int
    padding: Padding

    def begin(self, frame: Frame, masks: Masks) -> S:
        """Take the given masks (planes B O H W, O = 0 is legal) of the first frame."""
        ...

    def step(self, frame: Frame, state: S) -> tuple[Tensor, S]:
        """Segment the next frame.

        Returns:
            logits B (O+1) H W after aggregation over objects, background first: their softmax is the probability.
            Slots that are not in use hold a large negative finite number. And the new state.
        """
        ...

    def add(self, frame: Frame, masks: Masks, state: S) -> S:
        """Add objects whose first mask is on `frame`, after `step` on that frame. New slots follow the old ones."""
        ...


@runtime_checkable
class LowLevel(Protocol):
    """A segmenter that lets a wrapper see its low-level features."""

    def features(self, frame: Frame) -> Tensor:
        """B C H/4 W/4 features of the frame, computed once."""
        ...
