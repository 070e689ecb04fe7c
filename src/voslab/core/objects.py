"""Maps user object ids to slots. No other module knows user ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


class ObjectTable:
    """User ids (any integers but 0) against slots 1..O. A slot is given once and never moves.

    >>> table = ObjectTable()
    >>> table.add([7, 300])
    [7, 300]
    >>> table.to_slots(np.array([[0, 7, 300, 5]])).tolist()
    [[0, 1, 2, 0]]
    >>> table.to_ids(np.array([[0, 1, 2]])).tolist()
    [[0, 7, 300]]
    """

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._ids: list[int] = []
        self.add(ids)

    @property
    def ids(self) -> Sequence[int]:
        """Ids in slot order."""
        return tuple(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, ids: Iterable[int]) -> list[int]:
        """Give slots to the ids that have none yet, in the order they come; returns those ids."""
        new = [i for i in dict.fromkeys(int(i) for i in ids) if i != 0 and i not in self._ids]
        self._ids += new
        return new

    def to_slots(self, labels: NDArray[np.integer]) -> NDArray[np.int64]:
        """User label map -> slot label map; unknown ids become background."""
        return _translate(labels, np.array(self._ids, np.int64), np.arange(1, len(self) + 1, dtype=np.int64))

    def to_ids(self, slots: NDArray[np.integer]) -> NDArray[np.int64]:
        """Slot label map (0..O) -> user label map."""
        ids: NDArray[np.int64] = np.array([0, *self._ids], np.int64)[slots]
        return ids


def _translate(labels: NDArray[np.integer], keys: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    if keys.size == 0:
        return np.zeros(labels.shape, np.int64)
    order = np.argsort(keys)
    at = np.minimum(np.searchsorted(keys[order], labels), keys.size - 1)
    return np.where(keys[order][at] == labels, values[order][at], 0)
