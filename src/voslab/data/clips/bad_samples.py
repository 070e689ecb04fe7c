"""Clips that cannot be read: others stand in for them, they are counted, and too many of them end the training."""

from __future__ import annotations

import logging
from collections.abc import Sequence as ListOf
from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import Dataset

from voslab.core import DataError, VideoError, generator
from voslab.data.clips.dataset import ClipDataset, ClipItem

log = logging.getLogger(__name__)

_SHOWN = 20


@dataclass(frozen=True)
class ResampleOnError(Dataset[ClipItem]):
    """A data set of clips in which another clip of the same epoch stands in for one that cannot be read.

    Which one, the address alone decides, so workers, processes and resumed runs agree. The item's `skipped` says what
    was wrong.

    Attributes:
        clips: the data set.
        attempts: clips that are tried, the right one included.
    """

    clips: ClipDataset
    attempts: int = 8

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, address: tuple[int, int]) -> ClipItem:
        """The clip of (epoch, index) or of another index. Raises `DataError` when none of the attempts can be read."""
        epoch, index = address
        try:
            return self.clips[address]
        except (DataError, VideoError) as error:
            reasons = [str(error)]
        others = generator(self.clips.seed, epoch, index, "replacement").permutation(len(self.clips))
        for other in others[others != index][: self.attempts - 1].tolist():
            try:
                return replace(self.clips[epoch, other], skipped=tuple(reasons))
            except (DataError, VideoError) as error:
                reasons.append(str(error))
        raise DataError(f"{reasons[0]}; {len(reasons) - 1} other clips could not be read in its place")


class Skipped:
    """Counts the clips of an epoch that could not be read.

    Args:
        limit: the largest share of an epoch's clips.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.epoch = 0
        self.reasons: list[str] = []

    def add(self, epoch: int, clips: int, reasons: ListOf[str]) -> None:
        """Count and log those of a batch; `clips` are those of the epoch in this process.

        Raises:
            DataError: with the list, when there are too many.
        """
        if epoch != self.epoch:
            self.epoch, self.reasons = epoch, []
        for reason in reasons:
            log.warning("skipped a clip: %s", reason)
        self.reasons += reasons
        if len(self.reasons) > self.limit * clips:
            raise DataError(
                f"{len(self.reasons)} of the {clips} clips of epoch {epoch} cannot be read, more than"
                f" skip_limit={self.limit:g} of them: {listed(self.reasons)}"
            )

    def state_dict(self) -> dict[str, Any]:
        """The count so far, in plain types."""
        return {"epoch": self.epoch, "reasons": list(self.reasons)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.epoch, self.reasons = state["epoch"], list(state["reasons"])


def listed(reasons: ListOf[str]) -> str:
    """Different reasons in one line, those behind the twentieth as a number.

    >>> listed(["a.png: broken", "b.png: broken", "a.png: broken"])
    'a.png: broken; b.png: broken'
    """
    different = list(dict.fromkeys(reasons))
    more = f"; and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
    return "; ".join(different[:_SHOWN]) + more
