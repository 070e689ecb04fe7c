"""Replaces clips that cannot be read, counts them, and stops the training if there are too many."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.utils.data import Dataset

from voslab.core import DataError, VideoError, generator
from voslab.data.clips.dataset import ClipDataset
from voslab.data.clips.item import ClipItem

log = logging.getLogger(__name__)

_SHOWN = 20


@dataclass(frozen=True)
class ResampleOnError(Dataset[ClipItem]):
    """Replaces a clip that cannot be read by another clip of the same epoch.

    The replacement depends only on the address, so workers, processes and resumed runs agree. The `skipped` field of
    the item holds the reasons.

    Attributes:
        clips: The data set.
        attempts: Maximum number of clips to try, including the original.
    """

    clips: ClipDataset
    attempts: int = 8

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, address: tuple[int, int]) -> ClipItem:
        """Return the clip at (epoch, index) or a replacement. Raises `DataError` if all attempts fail."""
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


class BadSampleCounter:
    """Counts the unreadable clips of an epoch.

    Args:
        limit: Maximum fraction of an epoch's clips.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.epoch = 0
        self.reasons: list[str] = []

    def add(self, epoch: int, clips: int, reasons: Sequence[str]) -> None:
        """Count and log the unreadable clips of a batch.

        Args:
            epoch: Current epoch.
            clips: Number of clips per epoch in this process.
            reasons: One message per unreadable clip.

        Raises:
            DataError: If the count exceeds the limit; the message lists the reasons.
        """
        if epoch != self.epoch:
            self.epoch, self.reasons = epoch, []
        for reason in reasons:
            log.warning("skipped a clip: %s", reason)
        self.reasons += reasons
        if len(self.reasons) > self.limit * clips:
            raise DataError(
                f"{len(self.reasons)} of the {clips} clips of epoch {epoch} cannot be read, more than"
                f" skip_limit={self.limit:g} of them: {join_reasons(self.reasons)}"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the count in plain types."""
        return {"epoch": self.epoch, "reasons": list(self.reasons)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the count."""
        self.epoch, self.reasons = state["epoch"], list(state["reasons"])


def join_reasons(reasons: Sequence[str]) -> str:
    """Join distinct reasons in one line; those after the twentieth are only counted.

    Args:
        reasons: One message per unreadable clip.

    Returns:
        The messages, separated by semicolons.

    Example:
        >>> join_reasons(["a.png: broken", "b.png: broken", "a.png: broken"])
        'a.png: broken; b.png: broken'
    """
    distinct = list(dict.fromkeys(reasons))
    more = f"; and {len(distinct) - _SHOWN} more" if len(distinct) > _SHOWN else ""
    return "; ".join(distinct[:_SHOWN]) + more
