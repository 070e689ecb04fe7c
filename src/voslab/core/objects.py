"""Reads object ids from label maps and maps them to slots. No other module assigns slots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def object_ids(labels: NDArray[np.integer]) -> list[int]:
    """Return the ids of the objects in a label map, in ascending order.

    Args:
        labels: label map of any shape; 0 is background.

    Example:
        >>> object_ids(np.array([[0, 7], [300, 7]]))
        [7, 300]
    """
    return [int(i) for i in np.unique(labels) if i != 0]


class ObjectTable:
    """Maps user ids (any integers but 0) to slots 1..O. The slot of an id never changes.

    Args:
        ids: initial ids, in slot order.

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
        """Assign slots to new ids, in order.

        Args:
            ids: user ids; 0 and known ids are ignored.

        Returns:
            the new ids.
        """
        new = [i for i in dict.fromkeys(int(i) for i in ids) if i != 0 and i not in self._ids]
        self._ids += new
        return new

    def to_slots(self, labels: NDArray[np.integer]) -> NDArray[np.int64]:
        """Convert a label map of user ids to slots 0..O; unknown ids become background."""
        return _translate(labels, np.array(self._ids, np.int64), np.arange(1, len(self) + 1, dtype=np.int64))

    def to_ids(self, slots: NDArray[np.integer]) -> NDArray[np.int64]:
        """Convert a label map of slots 0..O to user ids."""
        ids: NDArray[np.int64] = np.array([0, *self._ids], np.int64)[slots]
        return ids


def _translate(labels: NDArray[np.integer], keys: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    if keys.size == 0:
        return np.zeros(labels.shape, np.int64)
    order = np.argsort(keys)
    position = np.minimum(np.searchsorted(keys[order], labels), keys.size - 1)
    return np.where(keys[order][position] == labels, values[order][position], 0)
