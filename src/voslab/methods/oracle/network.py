"""Oracle, which returns the true masks of every frame, for evaluation only."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from voslab.core import DataError, Frame, Masks, Segmenter, State, state_dataclass
from voslab.core.segmenter import Padding
from voslab.nn.aggregation import LIMIT, aggregate_min


@state_dataclass
class OracleState(State):
    """The slots in use, B O."""

    slot_mask: Tensor


class Oracle(Segmenter[OracleState]):
    """Returns the true masks of a frame, which the engine reads from the data set.

    As the base of CoVOS it gives true masks on key frames, so that what is lost is lost by propagation.
    """

    stride = 1
    padding: Padding = "zeros"
    needs_truth: ClassVar[bool] = True

    def begin(self, frame: Frame, masks: Masks) -> OracleState:
        """See `Segmenter.begin`."""
        return OracleState(masks.slot_mask)

    def step(self, frame: Frame, state: OracleState) -> tuple[Tensor, OracleState]:
        """See `Segmenter.step`.

        Raises:
            DataError: if the frame comes without its true masks.
        """
        if frame.truth is None:
            raise DataError(f"frame {frame.index}: the oracle needs the true masks of a data set: use src.evaluate")
        probs = frame.truth.probs[:, : state.slot_mask.shape[1]]
        return aggregate_min((2 * probs - 1) * LIMIT, state.slot_mask), state

    def add(self, frame: Frame, masks: Masks, state: OracleState, known: Masks | None = None) -> OracleState:
        """See `Segmenter.add`."""
        old = Masks(frame.image.new_zeros(*state.slot_mask.shape, *frame.image.shape[-2:]), state.slot_mask)
        return OracleState((known or old).append(masks).slot_mask)
