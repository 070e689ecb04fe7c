"""The floor of every table: whatever was given stays where it was."""

from __future__ import annotations

from torch import Tensor, nn

from voslab.core import Frame, Masks, State, state
from voslab.core.segmenter import Padding
from voslab.nn.aggregation import LIMIT, aggregate_min


@state
class CopyFirstState(State):
    """The masks as given."""

    masks: Masks


class CopyFirst(nn.Module):
    """Segments every frame with the masks that were given."""

    stride = 1
    padding: Padding = "zeros"

    def begin(self, frame: Frame, masks: Masks) -> CopyFirstState:
        """See `Segmenter.begin`."""
        return CopyFirstState(masks)

    def step(self, frame: Frame, state: CopyFirstState) -> tuple[Tensor, CopyFirstState]:
        """See `Segmenter.step`."""
        return aggregate_min((2 * state.masks.probs - 1) * LIMIT, state.masks.slot_mask), state

    def add(self, frame: Frame, masks: Masks, state: CopyFirstState) -> CopyFirstState:
        """See `Segmenter.add`."""
        return CopyFirstState(state.masks.append(masks))
