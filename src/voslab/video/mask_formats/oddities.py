"""Notices given masks that are probably not what they seem: void borders and inverted masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.video.mask_formats.options import Warn

_VOID = 255  # of Pascal VOC and many others
_BORDER = 13  # pixels: side of the square in which a border pixel is near an object
_NEAR, _WIDE = 0.8, 0.02  # fraction of the border near objects, and of it that is wider than the square
_EDGE, _AREA = 0.9, 0.5  # fraction of the image's edge, and of the image, that an inverted mask covers


def warn_of_oddities(source: Path | str, labels: NDArray[np.integer], warn: Warn) -> None:
    """Warn if the id 255 is a thin border around other objects, or an object surrounds the background.

    Args:
        source: File or frame, for the message.
        labels: Label map H W without void.
        warn: Receives the warning.
    """
    if labels.size == 0:
        return
    if _has_border(labels):
        warn(
            "border",
            f"{source}: the object with id {_VOID} is a thin border around others, as in Pascal VOC; mask_void={_VOID}"
            " takes it for void",
        )
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    ids, counts = np.unique(edge, return_counts=True)
    widest = int(ids[counts.argmax()])
    share = float((labels == widest).mean()) if widest != 0 and counts.max() >= _EDGE * edge.size else 0.0
    if _AREA <= share < 1:
        warn(
            "inverted",
            f"{source}: the object with id {widest} covers {share:.0%} of the mask and its edge: is the mask inverted?"
            " Background is 0 (black)",
        )


def _has_border(labels: NDArray[np.integer]) -> bool:
    border = labels == _VOID
    others = (labels != 0) & ~border
    if not border.any() or not others.any():
        return False
    square = np.ones((_BORDER, _BORDER), np.uint8)
    near = cv2.dilate(others.astype(np.uint8), square) > 0
    wide = cv2.erode(border.astype(np.uint8), square, borderValue=0) > 0
    return bool(near[border].mean() >= _NEAR and wide.sum() <= _WIDE * border.sum())
