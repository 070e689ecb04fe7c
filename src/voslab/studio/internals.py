"""Stores images of what a method computes inside, frame by frame, while masks are propagated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from voslab.core import DataError, atomic_write
from voslab.engine import Prediction

_QUALITY = 88


class Recorder(AbstractContextManager["Recorder"], Protocol):
    """Records a segmenter while it is open."""

    def draw(self, prediction: Prediction) -> Mapping[str, NDArray[np.uint8]]:
        """Draw what was computed for a frame, before the segmenter goes on.

        Args:
            prediction: Result of the frame.

        Returns:
            Images h w 3, RGB, by name; without those that the frame does not have.
        """
        ...


@dataclass(frozen=True)
class Internals:
    """Images of the internals that a method declares.

    Attributes:
        folder: Where they are stored: `<name>/<frame>.jpg`.
        names: Names of the images that are stored.
        recorder: Creates a recorder, given the masks that are propagated.
    """

    folder: Path
    names: Sequence[str]
    recorder: Callable[[Mapping[int, NDArray[np.integer]]], Recorder]

    def recorded(
        self, predictions: Iterator[Prediction], masks: Mapping[int, NDArray[np.integer]]
    ) -> Iterator[Prediction]:
        """Pass predictions on and store the images of each frame.

        Args:
            predictions: Predictions, computed when they are asked for.
            masks: The masks that are propagated.

        Returns:
            The same predictions.
        """
        with self.recorder(masks) as recorder:
            for prediction in predictions:
                drawn = recorder.draw(prediction)
                for name, image in ((name, drawn[name]) for name in self.names if name in drawn):
                    _, content = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                    atomic_write(self._path(name, prediction.index), content.tobytes())
                yield prediction

    def jpeg(self, name: str, frame: int) -> bytes | None:
        """Return the image of a frame as JPEG; None if it has none.

        Args:
            name: One of `names`.
            frame: Frame number, from 0.

        Raises:
            DataError: If there is no such name.
        """
        if name not in self.names:
            raise DataError(f"{name[:40]}: the method has no such image (there are {', '.join(self.names)})")
        path = self._path(name, frame)
        return path.read_bytes() if path.is_file() else None

    def _path(self, name: str, frame: int) -> Path:
        return self.folder / name / f"{frame:05d}.jpg"
