"""Training clips on one sheet, as a person wants to see them before a run."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import VOID
from voslab.data.clips.dataset import ClipDataset
from voslab.video import overlay

_HEIGHT, _COLUMNS, _RULE = 160, 3, 4


def contact_sheet(dataset: ClipDataset, count: int = 24, epoch: int = 0) -> NDArray[np.uint8]:
    """Clips spread over a data set, three to a row, frames from left to right, objects coloured: H W 3 RGB uint8.

    Void is shown in white.
    """
    indices = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int).tolist()
    strips = [_strip(dataset, epoch, index) for index in indices]
    strips += [np.full_like(strips[0], 255)] * (-len(strips) % _COLUMNS)
    rule = np.full((strips[0].shape[0], _RULE, 3), 255, np.uint8)
    rows = []
    for start in range(0, len(strips), _COLUMNS):
        row = np.concatenate([part for strip in strips[start : start + _COLUMNS] for part in (strip, rule)], 1)
        rows += [row, np.full((_RULE, row.shape[1], 3), 255, np.uint8)]
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
