"""The `Segmenter` contract: the interface of every method, and the optional interfaces that wrappers use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar, cast, runtime_checkable

from torch import Tensor, nn

from voslab.core.state import State, state_dataclass
from voslab.core.types import IMAGENET_MEAN, Frame, Masks

S = TypeVar("S", bound=State)
Padding = Literal["zeros", "mean", "reflect"]
Comparison = Literal["dot", "l2", "linear", "anisotropic"]
"""How query keys q and memory keys k are turned into an affinity whose rows sum to 1.

`dot` is the softmax over memory positions of q·k/√C, `l2` the softmax of (2 q·k - |k|²)/√C, and `linear` the product of
the softmax of q over channels and the softmax of k over memory positions. `anisotropic` is the softmax of
-s Σ e (k - q)²/√C, with a selection e of the query and a shrinkage s of the memory position.
"""


class Segmenter(nn.Module, ABC, Generic[S]):
    """Propagates the masks of one frame through a video.

    A segmenter holds no data of a video: all of it is in the state. A frame enters the memory at the start of the next
    `step`, from the features and final masks in the state. So `add` can still correct the masks, and the last frame is
    never memorised.

    Attributes:
        stride: height and width of a frame are padded to a multiple of this number of pixels.
        padding: values of the padding: `zeros` before normalisation, the `mean` (zero after normalisation), or a
            `reflect`ion of image and masks.
        mean: mean per colour channel that the network subtracts.
        codec_stride: pixels per side of the cells on which the engine samples motion vectors and their references.
        stages: names of the methods that `step` calls, in order; profilers time each of them.
        maps: paths of the submodules whose outputs can be drawn as heat maps, by the name of the map.
        optional_modules: prefixes of parameters that some configurations leave out; a checkpoint may hold more.
        unpublished_modules: prefixes of parameters that published weights leave out; they keep the values they have.
        needs_truth: whether frames must hold their true masks, as only data sets can provide.
        variant_modules: prefixes of parameters that ablated variants leave out, add or shape differently. Training a
            variant from the checkpoint of another drops or freshly initialises these, and no others.
    """

    stride: int
    padding: Padding
    mean: tuple[float, float, float] = IMAGENET_MEAN
    codec_stride: ClassVar[int] = 1
    stages: ClassVar[tuple[str, ...]] = ()
    maps: Mapping[str, str] = MappingProxyType({})
    optional_modules: ClassVar[tuple[str, ...]] = ()
    unpublished_modules: ClassVar[tuple[str, ...]] = ()
    needs_truth: ClassVar[bool] = False
    variant_modules: ClassVar[tuple[str, ...]] = ()

    @property
    def base(self) -> Segmenter[Any] | None:
        """The wrapped segmenter; None if this one wraps none."""
        return cast("Segmenter[Any] | None", self._modules.get("base"))

    @property
    def frame_encoder(self) -> nn.Module | None:
        """The submodule `encoder`, which sees the frame and not its masks; None if there is none."""
        return self._modules.get("encoder")

    @abstractmethod
    def begin(self, frame: Frame, masks: Masks) -> S:
        """Start a video with the masks of its first frame.

        Args:
            frame: first frame, image B 3 H W.
            masks: probs B O H W; O = 0 is legal.

        Returns:
            the state after the first frame.
        """

    @abstractmethod
    def step(self, frame: Frame, state: S) -> tuple[Tensor, S]:
        """Segment the next frame.

        Args:
            frame: next frame, image B 3 H W.
            state: state after the previous frame; consumed.

        Returns:
            logits B (O+1) H W after aggregation over objects, background first, and the new state. The softmax of the
            logits is the aggregated probability. Unused slots hold a large negative finite logit.
        """

    @abstractmethod
    def add(self, frame: Frame, masks: Masks, state: S, known: Masks | None = None) -> S:
        """Add objects whose first mask is on `frame`, and correct known ones. Called after `step` on the same frame.

        Args:
            frame: the frame that `step` has just segmented.
            masks: masks B O H W of the new objects only; O = 0 is legal.
            state: state that `step` returned; consumed.
            known: masks B O H W of all slots of the state, which replace the predicted ones; the frame is then
                memorised as one with given masks. A slot that is not in use is not segmented any more, until a later
                `known` uses it again. None: nothing is corrected.

        Returns:
            the state with the new slots after the existing ones.
        """


@runtime_checkable
class LowLevel(Protocol):
    """A segmenter that shares its low-level features with a wrapper."""

    def features(self, frame: Frame) -> Tensor:
        """Compute the features B C H/4 W/4 of a frame."""
        ...


@runtime_checkable
class HoldsFeatures(Protocol):
    """A segmenter whose state may hold the features of its newest frame, see `LowLevel`."""

    def held_features(self, state: Any) -> Tensor | None:
        """Return what `features` computes for the newest frame; None if the state does not hold it."""
        ...


@runtime_checkable
class ReferenceBuffered(Protocol[S]):
    """A segmenter whose state buffers frames because later frames may refer to them."""

    def retain(self, state: S, indices: Collection[int]) -> S:
        """Drop buffered frames that are not in `indices` (presentation order) and that the method does not need."""
        ...


@state_dataclass
class Projection(State):
    """The weights of a convolution, one set per clip.

    Attributes:
        weight: B Ck C k k.
        bias: B Ck.
    """

    weight: Tensor
    bias: Tensor


@state_dataclass
class Keys(State):
    """Key projections of one video, used in place of the network's own.

    Attributes:
        query: projection of query frames.
        memory: projection of memory frames; None: the same as `query`.
    """

    query: Projection
    memory: Projection | None = None

    @property
    def stored(self) -> Projection:
        """The projection of memory frames."""
        return self.query if self.memory is None else self.memory


@dataclass(frozen=True, slots=True)
class KeyInputs:
    """Inputs of the key projections for the frame in a state, as query and as memory.

    Attributes:
        query: B C h w, features of the frame.
        memory: B G C h w, features of the frame and its masks; G = O, or 1 where all objects share them.
        masks: masks of the frame.
        keys: projections of the video; None: the network's own.
        selection: B Ck h w, of the `anisotropic` comparison.
        shrinkage: B G 1 h w, of the `anisotropic` comparison.
    """

    query: Tensor
    memory: Tensor
    masks: Masks
    keys: Keys | None
    selection: Tensor | None = None
    shrinkage: Tensor | None = None


class KeyMatching(Segmenter[S]):
    """A segmenter that matches keys and accepts key projections per video.

    Its states may hold `Keys`, which later steps use in place of the network's projections. A frame enters the memory
    at the start of the next step, so keys that are set on a new state already apply to the first frame.
    """

    @property
    @abstractmethod
    def comparison(self) -> Comparison | None:
        """See `Comparison`; None if the affinity of this configuration is no distribution over memory positions."""

    @abstractmethod
    def key_layers(self) -> tuple[nn.Conv2d, ...]:
        """Return the network's key projections: one for query and one for memory, or one for both."""

    @abstractmethod
    def compare(self, state: S) -> tuple[KeyInputs, S]:
        """Compute the inputs of the key projections for the frame in a state.

        Returns:
            the inputs, and the state with the features that were computed for them.
        """

    @abstractmethod
    def with_keys(self, state: S, keys: Keys) -> S:
        """Set the key projections of a state. Keys that are already in its memory do not change."""
