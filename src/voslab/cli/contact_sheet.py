"""A sheet of sequences, best to worst: what the masks that a number stands for look like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voslab.core import atomic_path
from voslab.data import Sequence as Video
from voslab.metrics import ScoreTable
from voslab.video import overlay, read_mask
from voslab.video.drawing import caption, tiled

MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of a sequence at which it is shown; the first is the mask that was given."""
HEIGHT = 160
"""Rows of a panel."""


def write_sheet(path: Path, masks: Path, videos: Sequence[Video], score: ScoreTable, count: int = 3) -> None:
    """Write a picture with a row per sequence: the `count` best, the median ones and the worst by J&F.

    Args:
        path: a JPEG.
        masks: folder of `<sequence>/<frame>.png`.
        videos: the sequences that were scored.
        score: theirs; without any nothing is written.
        count: of each kind; fewer sequences than three times as many are all shown.
    """
    means = score.sequences()
    if not means:
        return
    order = chosen(sorted(means, key=lambda index: -means[index]), count)
    width = max(round(HEIGHT * np.divide(*videos[index].image(0).shape[1::-1])) for index in order)
    panels = [panel for index in order for panel in _panels(masks, videos[index], means[index], width)]
    with atomic_path(path) as temporary:
        Image.fromarray(tiled(panels, len(MOMENTS))).save(temporary, format="JPEG", quality=85)


def chosen(ranked: Sequence[int], count: int) -> list[int]:
    """The first, the middle and the last `count` of a ranking, each once."""
    if len(ranked) <= 3 * count:
        return list(ranked)
    middle = (len(ranked) - count) // 2
    return [*ranked[:count], *ranked[middle : middle + count], *ranked[-count:]]


def _panels(masks: Path, video: Video, mean: float, width: int) -> list[NDArray[np.uint8]]:
    asked = list(video.asked)
    found = []
    for moment in MOMENTS:
        index = asked[round(moment * (len(asked) - 1))]
        image = video.image(index)
        ids = read_mask(masks / video.name / f"{video.images[index].stem}.png")
        drawn = overlay(image, ids)
        fitted = cv2.resize(
            drawn, (min(width, round(HEIGHT * image.shape[1] / image.shape[0])), HEIGHT), interpolation=cv2.INTER_AREA
        )
        panel = np.zeros((HEIGHT, width, 3), np.uint8)
        panel[:, : fitted.shape[1]] = fitted
        caption(panel, f"{video.name} {100 * mean:.0f}" if moment == 0 else str(index))
        found.append(panel)
    return found
