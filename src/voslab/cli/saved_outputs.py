"""Lists what `src.segment` can save: the names of `save=[…]`, with their files and sinks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from omegaconf import ListConfig

from voslab.core import ConfigError
from voslab.core.parameters import nearest
from voslab.engine import OverlaySink, Sink, mask_sink
from voslab.engine.export_sinks import (
    CocoSink,
    alpha_sink,
    cutout_sink,
    green_screen_sink,
    object_sink,
    probability_sink,
    rgba_sink,
)
from voslab.video import Video, image_files
from voslab.video.video_writer import PRORES, VP9, VideoFormat


@dataclass(frozen=True)
class SavedOutput:
    """An output of `src.segment`.

    Attributes:
        file: name in the output folder; folders end with a slash.
        description: what the file holds.
        open: creates the sink, given the path and the video.
        probabilities: whether the sink needs predictions with probabilities.
        ordered: whether the sink needs predictions in presentation order.
    """

    file: str
    description: str
    open: Callable[[Path, Video], Sink]
    probabilities: bool = False
    ordered: bool = False


def _per_frame(create: Callable[[Path, dict[int, str] | None], Sink]) -> Callable[[Path, Video], Sink]:
    """Open a sink that writes files per frame, under the frames' own names if they have some."""
    return lambda path, video: create(path, None if video.names is None else dict(enumerate(video.names)))


def _as_video(create: Callable[[Path, Fraction, tuple[int, int], Path | None], Sink]) -> Callable[[Path, Video], Sink]:
    """Open a sink that writes a video with the rate, size and audio of the source."""
    return lambda path, video: create(path, video.rate, video.size, video.path if video.is_video_file else None)


def _with_alpha(video_format: VideoFormat) -> Callable[[Path, Video], Sink]:
    return _as_video(lambda path, rate, size, audio: cutout_sink(path, rate, size, video_format, audio))


def _coco(path: Path, video: Video) -> Sink:
    files = None if video.names is None else {i: file.name for i, file in enumerate(image_files(video.path))}
    return CocoSink(path, video.size, files)


OUTPUTS = {
    "masks": SavedOutput(
        "masks/",
        "one PNG per frame, with the ids of the given mask",
        _per_frame(mask_sink),
    ),
    "overlay": SavedOutput(
        "overlay.mp4",
        "the video with coloured objects",
        _as_video(OverlaySink),
        ordered=True,
    ),
    "rgba": SavedOutput(
        "rgba/",
        "one PNG per frame, transparent outside the objects",
        _per_frame(rgba_sink),
        probabilities=True,
    ),
    "greenscreen": SavedOutput(
        "greenscreen.mp4",
        "the objects on green",
        _as_video(green_screen_sink),
        probabilities=True,
        ordered=True,
    ),
    "prores": SavedOutput(
        "cutout.mov",
        "the objects with transparency, for editors (ProRes 4444)",
        _with_alpha(PRORES),
        probabilities=True,
        ordered=True,
    ),
    "webm": SavedOutput(
        "cutout.webm",
        "the objects with transparency, for browsers (VP9)",
        _with_alpha(VP9),
        probabilities=True,
        ordered=True,
    ),
    "alpha": SavedOutput(
        "alpha/",
        "one grey PNG per frame, the soft mask of all objects",
        _per_frame(alpha_sink),
        probabilities=True,
    ),
    "coco": SavedOutput("annotations.json", "the masks as COCO annotations (RLE)", _coco),
    "probabilities": SavedOutput(
        "probabilities/",
        "a folder per object, one soft mask per frame",
        _per_frame(probability_sink),
        probabilities=True,
    ),
    "per_object": SavedOutput(
        "per_object/",
        "a folder per object, one black and white mask per frame",
        _per_frame(object_sink),
    ),
}
"""Outputs by their name in `save`."""


def saved_outputs(save: Any) -> dict[str, SavedOutput]:
    """Look up the outputs that a configuration selects.

    Args:
        save: names of `OUTPUTS`: a list, or one name.

    Returns:
        The outputs by name, each once.

    Raises:
        ConfigError: If a name is unknown, or there is none.
    """
    names = list(save) if isinstance(save, list | ListConfig) else [save]
    choices = f"(there are {', '.join(OUTPUTS)})"
    if not names:
        raise ConfigError(f"save=[]: no output is selected {choices}")
    for name in names:
        if not isinstance(name, str) or name not in OUTPUTS:
            raise ConfigError(f"save={name}: no such output{nearest(str(name), OUTPUTS)} {choices}")
    return {name: OUTPUTS[name] for name in names}
