"""The one contract: a method is a `Segmenter`, and whoever runs or wraps one needs to know no more than this file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from voslab.core.state import State, state
from voslab.core.types import Frame, Masks

S = TypeVar("S", bound=State)
Padding = Literal["zeros", "mean", "reflect"]
Comparison = Literal["dot", "l2", "linear"]
"""How keys of a query and a memory become an affinity whose rows sum to 1: a softmax over memory positions of q·k/√C
or of (2 q·k - |k|²)/√C, or the product of softmax over channels of q and softmax over memory positions of k."""


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
        """Take the given masks (probs B O H W, O = 0 is legal) of the first frame."""
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


@runtime_checkable
class ReferenceBuffered(Protocol[S]):
    """A segmenter whose state holds pictures because later ones may refer to them."""

    def retain(self, state: S, indices: Collection[int]) -> S:
        """Forget pictures but those of these presentation indices, and what else it needs."""
        ...


@state
class Projection(State):
    """A convolution's weights, clip by clip: `weight` B Ck C k k, `bias` B Ck."""

    weight: Tensor
    bias: Tensor


@state
class Keys(State):
    """A video's own key projections.

    Attributes:
        query: what a frame is asked with.
        memory: what it is remembered by; None: `query` too.
    """

    query: Projection
    memory: Projection | None = None

    @property
    def stored(self) -> Projection:
        """What a frame is remembered by."""
        return self.query if self.memory is None else self.memory


@dataclass(frozen=True, slots=True)
class KeyInputs:
    """The frame that a state holds, as both sides of a comparison: what goes into the key projections.

    Attributes:
        query: B C h w, of the frame.
        memory: B G C h w, of the frame with its masks: G = O, or 1 where all objects share it.
        masks: of the frame.
        keys: the video's own; None: the network's.
    """

    query: Tensor
    memory: Tensor
    masks: Masks
    keys: Keys | None


@runtime_checkable
class KeyMatching(Segmenter[S], Protocol[S]):
    """A segmenter that compares keys, and lets a wrapper give a video keys of its own.

    Its states may hold `Keys`, used in place of the network's projections by every later `step`. As a frame enters the
    memory at the start of the next step, keys given to a new state are those its first frame is remembered by.
    """

    @property
    def comparison(self) -> Comparison | None:
        """See `Comparison`; None: as configured, its affinity is no distribution over memory positions."""
        ...

    def key_layers(self) -> tuple[nn.Conv2d, ...]:
        """The network's own projections: of query and memory, or one for both."""
        ...

    def compare(self, state: S) -> tuple[KeyInputs, S]:
        """What the projections see of the frame that the state holds; the new state remembers what it took to know."""
        ...

    def with_keys(self, state: S, keys: Keys) -> S:
        """The state with other keys. What is in its memory already keeps the keys it was written with."""
        ...
