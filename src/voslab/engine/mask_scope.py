"""Decides what given masks say of known objects that are not in them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MaskScope = Literal["full", "partial"]
"""`full`: a given mask is the whole truth of its frame. `partial`: it is the truth of the objects in it only."""
_log = logging.getLogger(__name__)


def find_mask_scope(masks: Mapping[int, NDArray[np.integer]]) -> MaskScope:
    """Return `partial` if every mask after the first holds new objects only, otherwise `full`.

    Masks are read in order, up to the first one that decides.

    Args:
        masks: label maps H W by frame index; 0 is background.

    Example:
        >>> first, second = np.array([[1, 0, 0]]), np.array([[0, 2, 0]])
        >>> find_mask_scope({0: first, 5: second}), find_mask_scope({0: first, 5: first + second})
        ('partial', 'full')
    """
    if len(masks) < 2:
        return "full"
    known: set[int] = set()
    for frame in sorted(masks):
        present = set(np.unique(masks[frame]).tolist()) - {0}
        if known and (not present or present & known):
            return "full"
        known |= present
    _log.info("later masks hold new objects only: objects that are not in them stay (mask_scope=partial)")
    return "partial"
