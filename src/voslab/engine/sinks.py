"""Sinks for predictions: images per frame and videos, written in the background."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from voslab.core import WriteError
from voslab.engine.prediction import Prediction, Throughput
from voslab.video import BackgroundWriter, VideoWriter, overlay, write_mask
from voslab.video.video_writer import H264, VideoFormat


class Sink(Protocol):
    """Context manager that takes predictions in order and completes its files on exit; errors leave no partial file.

    After an interrupt, files are completed with the predictions so far.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def put(self, prediction: Prediction) -> None:
        """Take a prediction.

        Raises:
            WriteError: if this or an earlier prediction could not be written.
        """
        ...


def frame_sink(
    write: Callable[[str, Prediction], None], names: Mapping[int, str] | None = None, capacity: int = 8
) -> Sink:
    """Create a sink that writes files per frame.

    Args:
        write: writes the files of a frame, given their stem and the prediction.
        names: file stems by frame index; other frames are not written. By default all frames are written and named by
            their index in five digits.
        capacity: maximum number of predictions that wait for the writer.

    Returns:
        the sink.
    """

    def write_named(prediction: Prediction) -> None:
        name = f"{prediction.index:05d}" if names is None else names.get(prediction.index)
        if name is not None:
            write(name, prediction)

    return BackgroundWriter(write_named, capacity)


def mask_sink(folder: Path, names: Mapping[int, str] | None = None) -> Sink:
    """Create a sink that writes masks as palette PNGs with the user's ids.

    Args:
        folder: output folder; created if it does not exist.
        names: see `frame_sink`.

    Returns:
        the sink.
    """
    return frame_sink(lambda name, prediction: write_mask(folder / f"{name}.png", prediction.ids), names)


class CompositeSink:
    """Base class of sinks with several parts, which are opened in order and closed in reverse order.

    Args:
        parts: context managers.
    """

    def __init__(self, *parts: AbstractContextManager[Any]) -> None:
        self._parts = parts
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for part in self._parts:
            self._stack.enter_context(part)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, KeyboardInterrupt | SystemExit):
            self._stack.__exit__(kind, error, trace)
            return
        # Without a prediction there is no file to finish.
        with suppress(WriteError):
            self._stack.close()


class VideoSink(CompositeSink):
    """Sink that writes a video with one image per prediction, at the time of its frame.

    Args:
        path: file to write.
        rate: frames per second, for predictions without a time.
        size: H, W of the frames.
        draw: returns the image of a prediction, H W 3, or H W 4 for formats with transparency.
        capacity: maximum number of predictions that wait for the writer.
        video_format: codec and container.
        audio: video file whose audio is copied; None for none.
    """

    def __init__(
        self,
        path: Path,
        rate: Fraction,
        size: tuple[int, int],
        draw: Callable[[Prediction], NDArray[np.uint8]],
        capacity: int = 8,
        video_format: VideoFormat = H264,
        audio: Path | None = None,
    ) -> None:
        self._video = VideoWriter(path, rate, size, video_format=video_format, audio=audio)
        self._background = BackgroundWriter[Prediction](lambda each: self._video.write(draw(each), each.time), capacity)
        super().__init__(self._video, self._background)

    def put(self, prediction: Prediction) -> None:
        """See `Sink.put`."""
        self._background.put(prediction)


class OverlaySink(VideoSink):
    """Sink that writes an mp4 of the source frames with coloured objects.

    Args:
        path: file to write.
        rate: frames per second, for predictions without a time.
        size: H, W of the frames.
        audio: video file whose audio is copied; None for none.
    """

    def __init__(self, path: Path, rate: Fraction, size: tuple[int, int], audio: Path | None = None) -> None:
        super().__init__(path, rate, size, lambda each: overlay(each.image, each.ids), audio=audio)


def consume(
    predictions: Iterable[Prediction],
    sinks: Sequence[Sink] = (),
    each: Callable[[Prediction, Throughput], None] | None = None,
) -> Throughput:
    """Write every prediction to every sink.

    Args:
        predictions: output of `run`.
        sinks: opened before the first prediction and closed after the last one.
        each: called with each prediction and the throughput so far, for progress bars and metrics.

    Returns:
        the throughput over all frames.
    """
    throughput = Throughput()
    with ExitStack() as stack:
        for sink in sinks:
            stack.enter_context(sink)
        for prediction in predictions:
            throughput.add(prediction)
            for sink in sinks:
                sink.put(prediction)
            if each is not None:
                each(prediction, throughput)
    return throughput
