"""Draws the intermediate results of a segmenter that uses codec data: six images per frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from voslab.core import ObjectTable, Segmenter
from voslab.engine.padding import crop, pads
from voslab.engine.prediction import Prediction
from voslab.engine.session import Labels
from voslab.engine.settings import Settings
from voslab.video import overlay
from voslab.video.drawing import arrows, caption, dimmed, panel_size, resized, tint

CELL = 4
PAST, FUTURE = (90, 210, 255), (255, 160, 60)
INTRA, LARGE, CORRECTED = (150, 40, 40), (240, 220, 60), (255, 60, 200)
PANELS = ("frame", "motion", "residual", "propagated masks", "corrected masks", "final masks")
"""Names of the panels, in rows of three."""


@dataclass
class Seen:
    """Intermediate results of one padded frame, by cells of 4 pixels.

    Motion is 4 h w in pixels, references 2 h w, masks O h w, all others h w.
    """

    type: str
    key: bool
    motion: NDArray[np.float16] | None = None
    references: NDArray[np.int32] | None = None
    large: NDArray[np.bool_] | None = None
    probs: Tensor | None = None
    corrected: Tensor | None = None
    selected: NDArray[np.bool_] | None = None


class Panels:
    """Draws the panels of a frame.

    Args:
        size: H W of the source; panels have at most 480 pixels on the shorter side.
        segmenter: segmenter that is recorded.
        settings: settings of the engine.
        masks: given masks, from which the ids of the slots are known.

    Attributes:
        size: H W of a panel.
    """

    def __init__(
        self, size: tuple[int, int], segmenter: Segmenter[Any], settings: Settings, masks: Mapping[int, Labels]
    ) -> None:
        self._working = settings.working_size(size)
        self._pads = pads(self._working, segmenter.stride, segmenter.padding)
        self.size = panel_size(size)
        self._table = ObjectTable(int(i) for index in sorted(masks) for i in np.unique(masks[index]))

    def draw(self, prediction: Prediction, seen: Seen) -> dict[str, NDArray[np.uint8]]:
        """Draw a frame.

        Args:
            prediction: its result.
            seen: intermediate results.

        Returns:
            images h w 3, RGB, by the names of `PANELS`.
        """
        image = resized(prediction.image, self.size)
        ids = self._fit(torch.from_numpy(prediction.ids)[None, None].double(), "nearest-exact")[0].astype(np.int64)
        final = overlay(image, ids)
        caption(final, "final masks", "(base model)" if seen.probs is None else "(propagated)")
        images = (
            self._frame(image, prediction.index, seen),
            self._motion(image, seen),
            self._residual(image, seen),
            self._masks(image, seen.probs, "propagated masks"),
            self._masks(image, seen.corrected, "corrected masks"),
            final,
        )
        return dict(zip(PANELS, images, strict=True))

    def _frame(self, image: NDArray[np.uint8], index: int, seen: Seen) -> NDArray[np.uint8]:
        used = {int(i) for i in np.unique(seen.references) if i >= 0} if seen.references is not None else set()
        origin = f"from {', '.join(map(str, sorted(used)))}" if used else "predicted from none"
        shown = image.copy()
        caption(shown, f"{seen.type}-frame {index}, {origin}", "- key frame" if seen.key else "")
        return shown

    def _motion(self, image: NDArray[np.uint8], seen: Seen) -> NDArray[np.uint8]:
        shown = dimmed(image)
        if seen.motion is None or seen.references is None:
            caption(shown, "no motion vectors")
            return shown
        used = self._cells(torch.from_numpy(seen.references >= 0)) > 0.5
        motion = self._cells(torch.from_numpy(seen.motion))
        ratio = np.array([new / old for new, old in zip(self.size[::-1], self._working[::-1], strict=True)])
        shown = tint(shown, ~(used[0] | used[1]), INTRA, 0.4)
        for place, colour in enumerate((PAST, FUTURE)):
            arrows(shown, motion[2 * place : 2 * place + 2] * ratio[:, None, None], used[place], colour)
        caption(shown, "motion", ("to the past", PAST), ("to the future", FUTURE), ("none: intra", (230, 90, 90)))
        return shown

    def _residual(self, image: NDArray[np.uint8], seen: Seen) -> NDArray[np.uint8]:
        shown = dimmed(image)
        if seen.large is not None:
            shown = tint(shown, self._cells(torch.from_numpy(seen.large)[None])[0] > 0.5, LARGE)
        if seen.selected is not None:
            shown = tint(shown, self._cells(torch.from_numpy(seen.selected)[None])[0] > 0.5, CORRECTED)
        caption(shown, ("large residual", LARGE), ("corrected", CORRECTED))
        return shown

    def _masks(self, image: NDArray[np.uint8], probs: Tensor | None, title: str) -> NDArray[np.uint8]:
        if probs is None:
            shown = dimmed(image)
            caption(shown, f"{title}: none")
            return shown
        fitted = self._cells(probs, "bilinear").clip(0, 1)
        chances = np.concatenate([(1 - fitted).prod(0, keepdims=True), fitted])
        shown = overlay(image, self._table.to_ids(chances.argmax(0)))
        caption(shown, title)
        return shown

    def _cells(self, cells: Tensor, mode: str = "nearest-exact") -> NDArray[np.float32]:
        """Resize cells n h w of the padded frame to the panel: n H W."""
        pixels = F.interpolate(cells[None].float(), scale_factor=CELL, mode=mode)
        return self._fit(crop(pixels, self._pads), mode)

    def _fit(self, pixels: Tensor, mode: str) -> NDArray[Any]:
        return np.asarray(F.interpolate(pixels, self.size, mode=mode)[0])
