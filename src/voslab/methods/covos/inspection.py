"""Draws how a segmenter uses codec data as a video of six panels.

Upper row: the frame with its type, number and references; motion vectors; residual. Lower row: propagated masks,
corrected masks and final masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from voslab.core import ConfigError, Frame, Segmenter
from voslab.engine.prediction import Prediction
from voslab.engine.session import Labels
from voslab.engine.settings import Settings
from voslab.engine.sinks import CompositeSink
from voslab.engine.timing import wrap_methods
from voslab.methods.covos.panels import CELL, Panels, Seen
from voslab.video import BackgroundWriter, VideoWriter
from voslab.video.drawing import tiled


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
        self._panels = Panels(size, segmenter, settings, masks)
        height, width = self._panels.size
        self._video = VideoWriter(path, rate, (2 * height, 3 * width))
        self._background = BackgroundWriter[_Item](self._write)
        super().__init__(self._video, self._background, self._watcher)

    def put(self, prediction: Prediction) -> None:
        """See `Sink.put`."""
        self._background.put(_Item(prediction, self._watcher.take(prediction.index) or Seen("I", True)))

    def _write(self, item: _Item) -> None:
        panels = self._panels.draw(item.prediction, item.seen)
        self._video.write(tiled(tuple(panels.values())), item.prediction.time)


class MotionRecorder(AbstractContextManager["MotionRecorder"]):
    """Context manager that draws the panels of a segmenter, frame by frame.

    Args:
        size: H W of the source.
        segmenter: segmenter to record.
        settings: settings of the engine.
        masks: given masks, from which the ids of the slots are known.

    Raises:
        ConfigError: the segmenter propagates no masks by motion vectors.
    """

    def __init__(
        self, size: tuple[int, int], segmenter: Segmenter[Any], settings: Settings, masks: Mapping[int, Labels]
    ) -> None:
        self._watcher = Watcher(segmenter)
        self._panels = Panels(size, segmenter, settings, masks)

    def __enter__(self) -> Self:
        self._watcher.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watcher.__exit__(kind, error, trace)

    def draw(self, prediction: Prediction) -> dict[str, NDArray[np.uint8]]:
        """Draw a frame that was segmented.

        Args:
            prediction: its result.

        Returns:
            images h w 3, RGB, by the names of `PANELS`.
        """
        return self._panels.draw(prediction, self._watcher.take(prediction.index) or Seen("I", True))


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
