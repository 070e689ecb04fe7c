"""Segments one video of a configuration and writes the outputs of `save`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from voslab.cli.saved_outputs import SavedOutput
from voslab.core import ConfigError, DataError, claimed, object_ids
from voslab.core.files import remove_partial
from voslab.engine import Prediction, Sink, Throughput, consume
from voslab.engine.directions import check_direction
from voslab.engine.feature_maps import MapSink
from voslab.engine.positions import parse_position
from voslab.engine.reorder import PresentationOrder
from voslab.methods.covos.inspection import MotionSink
from voslab.predictor import Predictor
from voslab.video import MaskOptions, Video, open_video, read_masks
from voslab.video.masks import MaskFiles


@dataclass(frozen=True)
class Inputs:
    """An opened video and its masks.

    Attributes:
        video: the video.
        masks: its given masks.
        objects: ids of the first mask with an object.
        mask_path: where the masks come from.
    """

    video: Video
    masks: MaskFiles
    objects: list[int]
    mask_path: Path | str


def open_inputs(config: DictConfig, video_path: Path | str, mask_path: Path | str) -> Inputs:
    """Open a video and find its masks.

    Args:
        config: configuration of `src.segment`.
        video_path: a video file, a folder of images or a stream.
        mask_path: see `read_masks`.

    Raises:
        VideoError, DataError: if one of them cannot be read, they do not fit, or the masks hold no object.
    """
    if config.drop_frames not in (None, True, False):
        raise ConfigError(f"drop_frames={config.drop_frames}: must be true, false or null")
    video = open_video(video_path, config.drop_frames)
    options = MaskOptions(config.mask_colors, config.mask_void, config.mask_resize)
    count = video.count if video.names else None
    masks = read_masks(mask_path, count, video.names, video.size, options)
    objects = next((ids for labels in masks.values() if (ids := object_ids(labels))), [])
    if not objects:
        void = "" if options.void is None else f" or void (mask_void={options.void})"
        raise DataError(f"{mask_path}: there is no object in it, every pixel is 0{void}")
    return Inputs(video, masks, objects, mask_path)


def check_part(config: DictConfig) -> None:
    """Check the options that say which part of a video is segmented, and in which direction.

    Args:
        config: configuration of `src.segment`.

    Raises:
        ConfigError: if one is malformed, or does not go with `inspect`.
    """
    direction = check_direction(config.direction)
    if config.inspect and direction != "forward":
        raise ConfigError(f"inspect=true with direction={direction}: it goes with direction=forward")
    for name in ("start", "end"):
        parse_position(name, config[name])


def progress_bar(show: bool = True) -> Progress:
    """Return the progress bar of `segment`; its tasks have a field `speed`.

    Args:
        show: whether it is shown.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.fields[speed]}"), disable=not show)


def segment_video(
    config: DictConfig,
    inputs: Inputs,
    predictor: Predictor,
    saved: Mapping[str, SavedOutput],
    output: Path,
    each: Callable[[Prediction, Throughput], None],
) -> Throughput:
    """Segment a video and write its outputs.

    Args:
        config: configuration of `src.segment`.
        inputs: the video and its masks.
        predictor: the model.
        saved: outputs to write.
        output: their folder.
        each: called with each prediction and the throughput so far.

    Returns:
        the throughput over all frames.

    Raises:
        VOSError: if a frame or a mask cannot be read, or an output cannot be written.
    """
    with claimed(output):
        folders = [output / one.file for one in saved.values() if one.file.endswith("/")]
        remove_partial(output, *folders, *(path for folder in (*folders, output / "maps") for path in folder.glob("*")))
        sinks = _open_sinks(config, inputs.video, saved, output)
        if config.inspect:
            sinks.append(_inspection_sink(inputs, predictor, output))
        part = {"direction": config.direction, "start": config.start, "end": config.end}
        soft = any(one.probabilities for one in saved.values())
        try:
            predictions = predictor.segment(
                inputs.video, inputs.masks, **part, probabilities=soft, mask_scope=config.mask_scope
            )
        except DataError as error:
            raise DataError(f"{inputs.mask_path}: {error}") from error
        return consume(predictions, sinks, each)


def _open_sinks(config: DictConfig, video: Video, saved: Mapping[str, SavedOutput], output: Path) -> list[Sink]:
    """Create the sinks. If frames do not come in presentation order, sinks that need it get them at the end."""
    opened = {name: each.open(output / each.file, video) for name, each in saved.items()}
    ordered = [sink for name, sink in opened.items() if saved[name].ordered and config.direction != "forward"]
    others = [sink for sink in opened.values() if sink not in ordered]
    # Streams are refused later, because they cannot be read backward.
    if not ordered or video.access is None:
        return [*opened.values()]
    return [*others, PresentationOrder(ordered, output, video.access.between)]


def inspection_path(predictor: Predictor, output: Path) -> Path:
    """Return what `inspect=true` writes: a folder of maps, or a video for methods that read codec data.

    Args:
        predictor: the model.
        output: output folder.
    """
    return output / ("maps" if predictor.model.codec_source is None else "inspect.mp4")


def _inspection_sink(inputs: Inputs, predictor: Predictor, output: Path) -> Sink:
    model, path = predictor.model, inspection_path(predictor, output)
    if model.codec_source is None:
        return MapSink(path, model.segmenter, model.settings)
    video = inputs.video
    return MotionSink(path, video.rate, video.size, model.segmenter, model.settings, inputs.masks)
