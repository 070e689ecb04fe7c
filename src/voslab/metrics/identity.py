"""Counts identity switches: how often an object is taken over by the mask of another one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError


def holders(
    prediction_ids: NDArray[np.integer], truth_ids: NDArray[np.integer], objects: Sequence[int]
) -> NDArray[np.int64]:
    """Find the predicted object that covers more than half of each true object.

    Args:
        prediction_ids: predicted label map, H x W.
        truth_ids: true label map, H x W.
        objects: ids of O objects.

    Returns:
        Ids of the predicted objects, O; 0 for a true object that none covers.

    Raises:
        DataError: if the sizes of the label maps differ.

    Example:
        >>> import numpy as np
        >>> from voslab.metrics import holders
        >>> truth = np.array([[1, 1, 1], [2, 2, 0]])
        >>> holders(np.array([[2, 2, 1], [2, 0, 0]]), truth, [1, 2])
        array([2, 0])
    """
    if prediction_ids.shape != truth_ids.shape:
        raise DataError(f"prediction of size {prediction_ids.shape}, truth of size {truth_ids.shape}")
    inside = (prediction_ids[truth_ids == i] for i in objects)
    found = (next((i for i in objects if 2 * np.count_nonzero(ids == i) > ids.size), 0) for ids in inside)
    return np.fromiter(found, np.int64, len(objects))


def identity_switches(held_by: Sequence[int], identity: int) -> int:
    """Count how often the predicted object that covers a true object changes, as in multi-object tracking.

    Args:
        held_by: results of `holders` for one true object, in the order of the frames.
        identity: id of the true object, which covers it in the first frame.

    Returns:
        Number of changes; frames in which no predicted object covers it change nothing.

    Example:
        >>> from voslab.metrics import identity_switches
        >>> identity_switches([1, 0, 2, 2, 0, 1], identity=1)
        2
    """
    covered = [identity, *(holder for holder in held_by if holder)]
    return sum(before != after for before, after in pairwise(covered))
