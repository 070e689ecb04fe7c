"""Draws how a segmenter uses codec data as a video of six panels.

Upper row: the frame with its type, number and references; motion vectors; residual. Lower row: propagated masks,
corrected masks and final masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from voslab.core import ConfigError, Frame, ObjectTable, Segmenter
from voslab.engine.padding import crop, pads
from voslab.engine.prediction import Prediction
from voslab.engine.profiling import wrap_methods
from voslab.engine.session import Labels
from voslab.engine.settings import Settings
from voslab.engine.sinks import CompositeSink
from voslab.video import BackgroundWriter, VideoWriter, overlay
from voslab.video.drawing import arrows, caption, dimmed, panel_size, resized, tiled, tint

CELL = 4
PAST, FUTURE = (90, 210, 255), (255, 160, 60)
INTRA, LARGE, CORRECTED = (150, 40, 40), (240, 220, 60), (255, 60, 200)


@runtime_checkable
class Propagates(Protocol):
    """Propagates masks by motion vectors and corrects them where the residual exceeds `threshold`."""

    threshold: float

    def propagate(self, frame: Frame, state: Any) -> tuple[Any, Any]:
        """Propagate masks to a B-frame.

        Returns:
            An object with `probs` and `corrected`, B O h w on cells of 4 pixels, and `selected`, B 1 h w, bool; and
            the new state.
        """
        ...


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


class Watcher:
    """Context manager that records intermediate results of a segmenter by shadowing its methods.

    Raises:
        ConfigError: the segmenter does not satisfy `Propagates`.
    """

    def __init__(self, segmenter: Segmenter[Any]) -> None:
        if not isinstance(segmenter, Propagates):
            raise ConfigError(
                f"inspect=true: {type(segmenter).__name__} has no propagated and corrected masks; use model=covos"
            )
        self._segmenter: Any = segmenter
        self._seen: dict[int, Seen] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        watched = {"begin": self._frame, "step": self._frame, "propagate": self._propagate}
        self._stack.enter_context(wrap_methods(self._segmenter, watched))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def take(self, index: int) -> Seen | None:
        """Remove and return the results of a frame; None if it was not segmented."""
        return self._seen.pop(index, None)

    def _frame(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def watching(frame: Frame, state: Any) -> Any:
            self._seen[frame.index] = _record(frame, self._segmenter.threshold)
            return method(frame, state)

        return watching

    def _propagate(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def watching(frame: Frame, state: Any) -> Any:
            propagated, state = method(frame, state)
            seen = self._seen[frame.index]
            seen.probs, seen.corrected = (_half(probs[0]) for probs in (propagated.probs, propagated.corrected))
            seen.selected = propagated.selected[0, 0].cpu().numpy()
            return propagated, state

        return watching


class _Item(NamedTuple):
    prediction: Prediction
    seen: Seen


class MotionSink(CompositeSink):
    """Sink that writes the inspection video, one frame per prediction.

    Args:
        path: path of the mp4.
        rate: frames per second.
        size: H W of the source; panels have at most 480 pixels on the shorter side.
        segmenter: segmenter to record while the sink is open.
        settings: settings of the engine.
        masks: given masks, from which the ids of the slots are known.

    Raises:
        ConfigError: the segmenter propagates no masks by motion vectors.
    """

    def __init__(
        self,
        path: Path,
        rate: Fraction,
        size: tuple[int, int],
        segmenter: Segmenter[Any],
        settings: Settings,
        masks: Mapping[int, Labels],
    ) -> None:
        self._watcher = Watcher(segmenter)
        self._working = settings.working_size(size)
        self._pads = pads(self._working, segmenter.stride, segmenter.padding)
        self._panel = height, width = panel_size(size)
        self._table = ObjectTable(int(i) for index in sorted(masks) for i in np.unique(masks[index]))
        self._video = VideoWriter(path, rate, (2 * height, 3 * width))
        self._background = BackgroundWriter[_Item](self._write)
        super().__init__(self._video, self._background, self._watcher)

    def put(self, prediction: Prediction) -> None:
        """See `Sink.put`."""
        self._background.put(_Item(prediction, self._watcher.take(prediction.index) or Seen("I", True)))

    def _write(self, item: _Item) -> None:
        prediction, seen = item
        image = resized(prediction.image, self._panel)
        ids = self._fit(torch.from_numpy(prediction.ids)[None, None].double(), "nearest-exact")[0].astype(np.int64)
        final = overlay(image, ids)
        caption(final, "final masks", "(base model)" if seen.probs is None else "(propagated)")
        panels = (
            self._frame(image, prediction.index, seen),
            self._motion(image, seen),
            self._residual(image, seen),
            self._masks(image, seen.probs, "propagated masks"),
            self._masks(image, seen.corrected, "corrected masks"),
            final,
        )
        self._video.write(tiled(panels), prediction.time)

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
        ratio = np.array([new / old for new, old in zip(self._panel[::-1], self._working[::-1], strict=True)])
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
        return np.asarray(F.interpolate(pixels, self._panel, mode=mode)[0])


def _record(frame: Frame, threshold: float) -> Seen:
    codec = frame.codec
    if codec is None:
        return Seen("I", frame.key)
    seen = Seen(codec.type, frame.key)
    height, width = (extent // CELL for extent in frame.image.shape[-2:])
    if codec.motion is not None and codec.references is not None:
        # Vectors of the pixel at the centre of each cell.
        step = codec.motion.shape[-1] // width
        motion, references = (x[0, :, step // 2 :: step, step // 2 :: step] for x in (codec.motion, codec.references))
        seen.motion, seen.references = motion.half().cpu().numpy(), references.cpu().numpy()
    if codec.residual is not None:
        small = F.interpolate(codec.residual.float(), (height, width), mode="bilinear", align_corners=False)
        seen.large = (small.abs().mean(1)[0] > threshold).cpu().numpy()
    return seen


def _half(probs: Tensor) -> Tensor:
    return probs.detach().half().cpu()
