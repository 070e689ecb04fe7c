"""Maps the objects of a clip to slots."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import VOID


def to_slots(labels: NDArray[np.int32], chosen: tuple[int, ...], void: int) -> NDArray[np.uint8]:
    """Replace the ids of chosen objects by slots 1, 2, ...; other objects become background.

    Args:
        labels: Label map, H W.
        chosen: Ids of the chosen objects, in the order of their slots.
        void: Label of void pixels, which become `VOID`.

    Returns:
        Slot map, H W.

    Example:
        >>> to_slots(np.array([[0, 7, 9, 3]], np.int32), (9, 7), void=3).tolist()
        [[0, 2, 1, 255]]
    """
    slots = np.zeros(labels.shape, np.uint8)
    for slot, identity in enumerate(chosen, 1):
        slots[labels == identity] = slot
    slots[labels == void] = VOID
    return slots


def drop_hidden(labels: NDArray[np.uint8], count: int, min_area: int) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """Turn objects that are smaller than `min_area` in the first frame into background, and renumber the slots.

    If all objects are smaller, the largest one is kept.

    Args:
        labels: Slot maps of T frames, T H W.
        count: Number of slots in use.
        min_area: Minimum area in pixels.

    Returns:
        The renumbered slot maps, and the areas of the kept objects in the first frame.
    """
    areas = np.bincount(labels[0].ravel(), minlength=VOID + 1)[1 : count + 1]
    visible = np.flatnonzero(areas >= max(1, min(min_area, areas.max(initial=0))))
    table = np.zeros(VOID + 1, np.uint8)
    table[visible + 1] = np.arange(1, len(visible) + 1)
    table[VOID] = VOID
    return np.stack([cv2.LUT(frame, table) for frame in labels]), areas[visible]
