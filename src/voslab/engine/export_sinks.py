"""Sinks for cut-outs: transparency, green screen, one mask per object, and COCO annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from voslab.core import ConfigError, object_ids
from voslab.core.files import atomic_write
from voslab.engine.prediction import Prediction
from voslab.engine.sinks import Sink, VideoSink, frame_sink
from voslab.video.mask_formats import rle
from voslab.video.video_writer import VideoFormat
from voslab.video.writer import write_png

GREEN = (0, 255, 0)
_CAPACITY = 2
"""Waiting predictions with probabilities, which take four bytes per pixel and object."""


def soft_alpha(prediction: Prediction) -> NDArray[np.uint8]:
    """Return the foreground probability of a frame, 1 - P(background), as 8-bit alpha.

    Args:
        prediction: prediction with probabilities.

    Returns:
        H W, 0 for background to 255 for objects. It is hard in frames with a given mask.

    Raises:
        ConfigError: if the prediction has no probabilities.
    """
    return _bytes(_probabilities(prediction).sum(0))


def alpha_sink(folder: Path, names: Mapping[int, str] | None = None) -> Sink:
    """Create a sink that writes `soft_alpha` as grey PNGs.

    Args:
        folder: output folder; created if it does not exist.
        names: see `frame_sink`.

    Returns:
        the sink.
    """
    return frame_sink(lambda name, each: write_png(folder / f"{name}.png", soft_alpha(each)), names, _CAPACITY)


def rgba_sink(folder: Path, names: Mapping[int, str] | None = None) -> Sink:
    """Create a sink that writes RGBA PNGs: the image, not multiplied by alpha, and `soft_alpha`.

    Args:
        folder: output folder; created if it does not exist.
        names: see `frame_sink`.

    Returns:
        the sink.
    """

    return frame_sink(lambda name, each: write_png(folder / f"{name}.png", cutout(each)), names, _CAPACITY)


def cutout(prediction: Prediction) -> NDArray[np.uint8]:
    """Return the image of a prediction, not multiplied by alpha, with `soft_alpha`.

    Args:
        prediction: prediction with probabilities.

    Returns:
        H W 4, RGBA.

    Raises:
        ConfigError: if the prediction has no probabilities.
    """
    return np.dstack([prediction.image, soft_alpha(prediction)])


def cutout_sink(
    path: Path, rate: Fraction, size: tuple[int, int], video_format: VideoFormat, audio: Path | None = None
) -> Sink:
    """Create a sink that writes `cutout` as a video with transparency.

    Args:
        path: file to write.
        rate: frames per second, for predictions without a time.
        size: H, W of the frames.
        video_format: a format with transparency.
        audio: video file whose audio is copied; None for none.

    Returns:
        the sink.
    """
    return VideoSink(path, rate, size, cutout, _CAPACITY, video_format, audio)


def green_screen(prediction: Prediction) -> NDArray[np.uint8]:
    """Blend the image of a prediction over green by `soft_alpha`.

    Args:
        prediction: prediction with probabilities.

    Returns:
        H W 3.

    Raises:
        ConfigError: if the prediction has no probabilities.
    """
    alpha = soft_alpha(prediction)[..., None].astype(np.float32) / 255
    blended = alpha * prediction.image + (1 - alpha) * np.array(GREEN, np.float32)
    rounded: NDArray[np.uint8] = np.rint(blended).astype(np.uint8)
    return rounded


def green_screen_sink(path: Path, rate: Fraction, size: tuple[int, int], audio: Path | None = None) -> Sink:
    """Create a sink that writes an mp4 with a green background.

    Args:
        path: file to write.
        rate: frames per second, for predictions without a time.
        size: H, W of the frames.
        audio: video file whose audio is copied; None for none.

    Returns:
        the sink.
    """
    return VideoSink(path, rate, size, green_screen, _CAPACITY, audio=audio)


def object_sink(folder: Path, names: Mapping[int, str] | None = None) -> Sink:
    """Create a sink that writes `folder/<id>/<frame>.png`: 255 where the object is, 0 elsewhere.

    An object has a file in every frame after it was first given, also where it is hidden.

    Args:
        folder: output folder; created if it does not exist.
        names: see `frame_sink`.

    Returns:
        the sink.
    """
    known: set[int] = set()

    def write(name: str, prediction: Prediction) -> None:
        known.update(object_ids(prediction.ids))
        for identity in sorted(known):
            inside = np.where(prediction.ids == identity, 255, 0).astype(np.uint8)
            write_png(folder / str(identity) / f"{name}.png", inside)

    return frame_sink(write, names)


def probability_sink(folder: Path, names: Mapping[int, str] | None = None) -> Sink:
    """Create a sink that writes `folder/<id>/<frame>.png`: the probability of each object, 255 for 1.

    Args:
        folder: output folder; created if it does not exist.
        names: see `frame_sink`.

    Returns:
        the sink.
    """

    def write(name: str, prediction: Prediction) -> None:
        for identity, probability in zip(prediction.object_ids, _probabilities(prediction), strict=True):
            write_png(folder / str(identity) / f"{name}.png", _bytes(probability))

    return frame_sink(write, names, _CAPACITY)


class CocoSink:
    """Sink that writes all masks as one file of COCO annotations with compressed run lengths.

    Every object is a category; `track_id` is its id too, for tools that read video. The file is written on exit,
    but not after an error.

    Args:
        path: file to write.
        size: H, W of the frames.
        names: file names of the images by frame index. By default the index in five digits, and `.png`.
    """

    def __init__(self, path: Path, size: tuple[int, int], names: Mapping[int, str] | None = None) -> None:
        self._path, self._size, self._names = path, size, names
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
            return
        identities = sorted({each["category_id"] for each in self._annotations})
        categories = [{"id": each, "name": f"object {each}", "supercategory": "object"} for each in identities]
        # A video that is segmented backward comes in reverse.
        images = sorted(self._images, key=lambda image: image["id"])
        annotations = sorted(self._annotations, key=lambda annotation: annotation["image_id"])
        numbered = [{**annotation, "id": number} for number, annotation in enumerate(annotations, 1)]
        content = {"images": images, "annotations": numbered, "categories": categories}
        atomic_write(self._path, json.dumps(content))

    def put(self, prediction: Prediction) -> None:
        """See `Sink.put`."""
        height, width = self._size
        image = prediction.index + 1
        name = f"{prediction.index:05d}.png" if self._names is None else self._names[prediction.index]
        self._images.append({"id": image, "file_name": name, "width": width, "height": height})
        for identity in object_ids(prediction.ids):
            inside = prediction.ids == identity
            self._annotations.append(
                {
                    "image_id": image,
                    "category_id": identity,
                    "track_id": identity,
                    "segmentation": {"size": [height, width], "counts": rle.encode(inside)},
                    "area": int(inside.sum()),
                    "bbox": _box(inside),
                    "iscrowd": 0,
                }
            )


def _box(inside: NDArray[np.bool_]) -> list[int]:
    """Return x, y, width, height of a mask that is not empty."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    top, left = int(rows[0]), int(columns[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _probabilities(prediction: Prediction) -> NDArray[np.float32]:
    if prediction.probabilities is None:
        raise ConfigError("soft masks need predictions with probabilities: run(..., probabilities=True)")
    return prediction.probabilities


def _bytes(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    scaled: NDArray[np.uint8] = np.rint(255 * probability.clip(0, 1)).astype(np.uint8)
    return scaled
