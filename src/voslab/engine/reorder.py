"""Restores presentation order for sinks that write one file, after a video was segmented backward."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from time import monotonic
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from voslab.core import RawFrame, WriteError
from voslab.engine.prediction import Prediction
from voslab.engine.sinks import Sink
from voslab.video import BackgroundWriter

_SECONDS_AFTER_INTERRUPT = 5.0
_STEPS = 65535
"""Steps in which probabilities are stored."""


class PresentationOrder:
    """Sink that stores predictions in files, and passes them on in presentation order when it is closed.

    The images are read again, so that no more than the masks of a frame is stored, compressed. After an error nothing
    is passed on. After an interrupt, the predictions so far are, as many as can be passed on in a few seconds.

    Args:
        sinks: sinks that need presentation order; opened when this one is closed.
        folder: folder in which a temporary folder is created.
        images: yields the frames from one index up to another, exclusive.
    """

    def __init__(self, sinks: Sequence[Sink], folder: Path, images: Callable[[int, int], Iterator[RawFrame]]) -> None:
        self._sinks = sinks
        self._folder = folder / f".order.{token_hex(6)}"
        self._images = images
        self._indices: list[int] = []
        self._background = BackgroundWriter(self._store)

    def __enter__(self) -> Self:
        self._background.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._background.__exit__(kind, error, trace)
            if self._indices and (error is None or isinstance(error, KeyboardInterrupt | SystemExit)):
                self._replay(None if error is None else monotonic() + _SECONDS_AFTER_INTERRUPT)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def put(self, prediction: Prediction) -> None:
        """See `Sink.put`."""
        self._indices.append(prediction.index)
        self._background.put(prediction)

    def _store(self, prediction: Prediction) -> None:
        ids = prediction.ids
        content: dict[str, NDArray[np.integer]] = {"ids": ids.astype(np.min_scalar_type(int(ids.max(initial=0))))}
        if prediction.probabilities is not None:
            content["probabilities"] = np.rint(prediction.probabilities * _STEPS).astype(np.uint16)
            content["object_ids"] = np.array(prediction.object_ids, np.int64)
        path = self._folder / f"{prediction.index}.npz"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, allow_pickle=False, **content)
        except OSError as error:
            raise WriteError(f"{path}: cannot be written ({error.strerror or error})") from error

    def _replay(self, deadline: float | None) -> None:
        known = set(self._indices)
        with ExitStack() as stack:
            for sink in self._sinks:
                stack.enter_context(sink)
            for frame in self._images(min(known), max(known) + 1):
                if frame.index in known:
                    prediction = self._load(frame)
                    for sink in self._sinks:
                        sink.put(prediction)
                    if deadline is not None and monotonic() > deadline:
                        return

    def _load(self, frame: RawFrame) -> Prediction:
        with np.load(self._folder / f"{frame.index}.npz") as content:
            found = Prediction(frame.index, frame.image, content["ids"].astype(np.int64), 0.0, time=frame.time)
            if "probabilities" not in content:
                return found
            probabilities = content["probabilities"].astype(np.float32) / np.float32(_STEPS)
            return replace(found, probabilities=probabilities, object_ids=tuple(content["object_ids"].tolist()))
