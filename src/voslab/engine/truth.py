"""Decides whether a segmenter gets the true masks of a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voslab.core import ConfigError, Segmenter

Truth = Callable[[int], NDArray[np.integer] | None]


def check_truth(segmenter: Segmenter[Any], truth: Truth | None) -> Truth | None:
    """Return the reader of true masks if the segmenter, or a base of it, needs them.

    Args:
        segmenter: the segmenter.
        truth: returns the true label map H W of a frame by presentation index; None if there are none.

    Raises:
        ConfigError: if the segmenter needs true masks and there are none.
    """
    inner: Segmenter[Any] | None = segmenter
    while inner is not None and not inner.needs_truth:
        inner = inner.base
    if inner is None:
        return None
    if truth is None:
        raise ConfigError("the oracle copies the true masks of a data set and works in src.evaluate only")
    return truth
