"""Computes region similarity J, the intersection over union of two masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError


def check_pair(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
    """Check that two masks can be compared.

    Args:
        prediction: boolean mask, H x W.
        truth: boolean mask, H x W.

    Raises:
        DataError: if a mask is not a boolean H x W array with at least one pixel, or the sizes differ.

    Example:
        >>> import numpy as np
        >>> from voslab.metrics.region import check_pair
        >>> check_pair(np.ones((2, 3), bool), np.zeros((2, 3), bool))
    """
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
            raise DataError(f"{name}: expected a boolean H W mask, got {mask.dtype} of shape {mask.shape}")
    if prediction.shape != truth.shape:
        raise DataError(f"prediction is {prediction.shape}, truth is {truth.shape}: the sizes (H, W) must be equal")


def jaccard(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    r"""Compute region similarity J, the intersection over union (Jaccard index) of two masks.

    .. math:: J = \frac{|P \cap T|}{|P \cup T|}

    Args:
        prediction: boolean mask :math:`P`, H x W.
        truth: boolean mask :math:`T`, H x W.

    Returns:
        J in [0, 1]; 1 if both masks are empty.

    Raises:
        DataError: if a mask is not a boolean H x W array with at least one pixel, or the sizes differ.

    Example:
        >>> import numpy as np
        >>> from voslab.metrics import jaccard
        >>> prediction = np.array([[True, True], [False, False]])
        >>> truth = np.array([[True, False], [False, False]])
        >>> jaccard(prediction, truth)
        0.5
    """
    check_pair(prediction, truth)
    union = np.count_nonzero(prediction | truth)
    return float(np.count_nonzero(prediction & truth) / union) if union else 1.0
