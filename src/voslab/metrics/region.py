"""Region similarity J: intersection over union of two masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError


def check_pair(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
    """Raise `DataError` unless both masks are boolean H W arrays of one size with at least one pixel."""
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
            raise DataError(f"{name}: expected a boolean H W mask, got {mask.dtype} of shape {mask.shape}")
    if prediction.shape != truth.shape:
        raise DataError(f"prediction is {prediction.shape}, truth is {truth.shape}: the sizes (H, W) must be equal")


def jaccard(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Intersection over union of two boolean H W masks, in [0, 1]; 1 where both are empty.

    Raises:
        DataError: if a mask is not a boolean image or the sizes differ.
    """
    check_pair(prediction, truth)
    union = np.count_nonzero(prediction | truth)
    return float(np.count_nonzero(prediction & truth) / union) if union else 1.0
