"""Renders training clips into one image for inspection before a run."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import VOID
from voslab.data.clips.dataset import ClipDataset
from voslab.video import overlay

_HEIGHT, _COLUMNS, _MARGIN = 160, 3, 4


def contact_sheet(dataset: ClipDataset, count: int = 24, epoch: int = 0) -> NDArray[np.uint8]:
    """Render clips of a data set, three per row, frames from left to right, with coloured objects and white void.

    Args:
        dataset: Training clips.
        count: Maximum number of clips, evenly spaced over the data set.
        epoch: Epoch of the clips.

    Returns:
        RGB image, H W 3 uint8.
    """
    indices = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int).tolist()
    strips = [_strip(dataset, epoch, index) for index in indices]
    strips += [np.full_like(strips[0], 255)] * (-len(strips) % _COLUMNS)
    separator = np.full((strips[0].shape[0], _MARGIN, 3), 255, np.uint8)
    rows = []
    for start in range(0, len(strips), _COLUMNS):
        row = np.concatenate([part for strip in strips[start : start + _COLUMNS] for part in (strip, separator)], 1)
        rows += [row, np.full((_MARGIN, row.shape[1], 3), 255, np.uint8)]
    return np.concatenate(rows)


def _strip(dataset: ClipDataset, epoch: int, index: int) -> NDArray[np.uint8]:
    item = dataset[epoch, index]
    frames = []
    for image, labels in zip(item.images.permute(0, 2, 3, 1).numpy(), item.labels.numpy(), strict=True):
        shown = overlay(np.ascontiguousarray(image), np.where(labels == VOID, 0, labels).astype(np.int64))
        shown[labels == VOID] = 255
        width = max(1, round(shown.shape[1] * _HEIGHT / shown.shape[0]))
        frames.append(cv2.resize(shown, (width, _HEIGHT), interpolation=cv2.INTER_AREA))
    return np.concatenate(frames, 1)
