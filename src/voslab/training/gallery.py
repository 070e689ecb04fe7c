"""Writes a gallery of validation masks (prediction | truth | error) to the run folder and to W&B."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import lightning as L
import numpy as np
from lightning.pytorch.loggers import WandbLogger
from numpy.typing import NDArray
from PIL import Image

from voslab.core import VOID, atomic_path
from voslab.core.parameters import Range, Side
from voslab.data import VideoSequence
from voslab.engine import Prediction, Sink
from voslab.training.evaluation import EvaluationModule, no_sinks
from voslab.video import overlay


class Gallery(L.Callback):
    """Draws one frame, two thirds into the sequence, of each of the first validation sequences.

    Args:
        folder: folder of `<sequence>.png`, rewritten at every validation.
        sequences: number of sequences.
        height: higher images are reduced to about this height in pixels by an integer factor.
    """

    def __init__(self, folder: str, sequences: Annotated[int, Range(0)] = 4, height: Side = 270) -> None:
        self.folder = Path(folder)
        self.sequences = sequences
        self.height = height
        self._panels: dict[str, NDArray[np.uint8]] = {}

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Attach to the predictions."""
        self._panels.clear()
        if isinstance(pl_module, EvaluationModule) and trainer.is_global_zero:
            pl_module.sinks = self._sinks

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write and log the images, and detach: a test has other sequences."""
        if isinstance(pl_module, EvaluationModule):
            pl_module.sinks = no_sinks
        if not self._panels:
            return
        for name, panel in self._panels.items():
            with atomic_path(self.folder / f"{name}.png") as path:
                Image.fromarray(panel).save(path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                captions = [f"{name}: prediction | truth | error" for name in self._panels]
                logger.log_image("val/gallery", list(self._panels.values()), caption=captions)

    def _sinks(self, video: VideoSequence) -> Sequence[Sink]:
        if len(self._panels) >= self.sequences or video.name in self._panels:
            return ()
        return (_Panel(self, video),)

    def add(self, video: VideoSequence, prediction: Prediction) -> None:
        """Draw the frame of one sequence."""
        truth = video.labels(prediction.index)
        if truth is not None:
            panel = comparison(prediction.image, prediction.ids, truth)
            step = max(1, round(panel.shape[0] / self.height))
            self._panels[video.name] = panel[::step, ::step]


class _Panel:
    """Passes one frame of a sequence to the gallery."""

    def __init__(self, gallery: Gallery, video: VideoSequence) -> None:
        self._gallery = gallery
        self._video = video
        self._index = 2 * (len(video) - 1) // 3

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def put(self, prediction: Prediction) -> None:
        """See `Sink.put`."""
        if prediction.index == self._index:
            self._gallery.add(self._video, prediction)


def comparison(image: NDArray[np.uint8], ids: NDArray[np.integer], truth: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Draw prediction, truth and error side by side.

    In the error image, missed or confused objects are red, and background predicted as object is blue.

    Args:
        image: RGB image, H x W x 3.
        ids: predicted label map, H x W.
        truth: true label map, H x W; void pixels are no error.

    Returns:
        RGB image, H x 3W x 3.
    """
    void = truth == VOID
    shown = np.where(void, 0, truth)
    grey = np.repeat(image.mean(-1, keepdims=True), 3, -1)
    wrong = (ids != shown) & ~void
    error = np.where(wrong[..., None], 0.35 * grey, grey)
    error[wrong & (shown > 0)] += np.array([160, 0, 0])
    error[wrong & (shown == 0)] += np.array([0, 40, 160])
    return np.concatenate([overlay(image, ids), overlay(image, shown), error.clip(0, 255).astype(np.uint8)], 1)
