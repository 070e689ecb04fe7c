"""Copy First, a baseline that predicts the given masks for every frame."""

from __future__ import annotations

from torch import Tensor

from voslab.core import Frame, Masks, Segmenter, State, state_dataclass
from voslab.core.segmenter import Padding
from voslab.nn.aggregation import LIMIT, aggregate_min


@state_dataclass
class CopyFirstState(State):
    """The given masks."""

    masks: Masks


class CopyFirst(Segmenter[CopyFirstState]):
    """Predicts the given masks for every frame."""

    stride = 1
    padding: Padding = "zeros"

    def begin(self, frame: Frame, masks: Masks) -> CopyFirstState:
        """See `Segmenter.begin`."""
        return CopyFirstState(masks)

    def step(self, frame: Frame, state: CopyFirstState) -> tuple[Tensor, CopyFirstState]:
        """See `Segmenter.step`."""
        return aggregate_min((2 * state.masks.probs - 1) * LIMIT, state.masks.slot_mask), state

    def add(self, frame: Frame, masks: Masks, state: CopyFirstState, known: Masks | None = None) -> CopyFirstState:
        """See `Segmenter.add`."""
        return CopyFirstState((known or state.masks).append(masks))
