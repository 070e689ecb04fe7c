"""Draws a contact sheet with the masks of the best, median and worst sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voslab.core import atomic_path
from voslab.data import VideoSequence
from voslab.metrics import ScoreTable
from voslab.video import overlay, read_mask
from voslab.video.drawing import caption, tiled
from voslab.video.mask_formats.options import LITERAL

MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Positions of the shown frames, as fractions of a sequence; the first frame has the given mask."""
HEIGHT = 160
"""Height of a panel in pixels."""


def write_sheet(path: Path, masks: Path, videos: Sequence[VideoSequence], score: ScoreTable, count: int = 3) -> None:
    """Write an image with one row per sequence: the best, the median and the worst ones by J&F.

    Args:
        path: path of the JPEG.
        masks: folder of `<sequence>/<frame>.png`.
        videos: the scored sequences.
        score: their scores; nothing is written if there are none.
        count: number of best, of median and of worst sequences.
    """
    means = score.sequences()
    if not means:
        return
    order = choose_rows(sorted(means, key=lambda index: -means[index]), count)
    width = max(round(HEIGHT * np.divide(*videos[index].image(0).shape[1::-1])) for index in order)
    panels = [panel for index in order for panel in _panels(masks, videos[index], means[index], width)]
    with atomic_path(path) as temporary:
        Image.fromarray(tiled(panels, len(MOMENTS))).save(temporary, format="JPEG", quality=85)


def choose_rows(ranked: Sequence[int], count: int) -> list[int]:
    """Choose the first, the middle and the last `count` items of a ranking.

    Example:
        >>> choose_rows(range(9), 1), choose_rows(range(2), 1)
        ([0, 4, 8], [0, 1])
    """
    if len(ranked) <= 3 * count:
        return list(ranked)
    middle = (len(ranked) - count) // 2
    return [*ranked[:count], *ranked[middle : middle + count], *ranked[-count:]]


def _panels(masks: Path, video: VideoSequence, mean: float, width: int) -> list[NDArray[np.uint8]]:
    asked = list(video.output_frames)
    found = []
    for moment in MOMENTS:
        index = asked[round(moment * (len(asked) - 1))]
        image = video.image(index)
        ids = read_mask(masks / video.name / f"{video.images[index].stem}.png", LITERAL)
        drawn = overlay(image, ids)
        fitted = cv2.resize(
            drawn, (min(width, round(HEIGHT * image.shape[1] / image.shape[0])), HEIGHT), interpolation=cv2.INTER_AREA
        )
        panel = np.zeros((HEIGHT, width, 3), np.uint8)
        panel[:, : fitted.shape[1]] = fitted
        caption(panel, f"{video.name} {100 * mean:.0f}" if moment == 0 else str(index))
        found.append(panel)
    return found
