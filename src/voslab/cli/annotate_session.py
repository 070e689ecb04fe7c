"""Builds what the annotation page works with: the second model, the internals of a method, and the outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from voslab.cli.entry import plain
from voslab.cli.saved_outputs import saved_outputs
from voslab.engine import Prediction, Sink, consume
from voslab.engine.feature_maps import MapRecorder
from voslab.methods.builder import LoadedModel
from voslab.methods.covos.inspection import MotionRecorder, Propagates
from voslab.methods.covos.panels import PANELS
from voslab.predictor import Predictor
from voslab.studio.comparison import Comparison
from voslab.studio.dataset import DatasetSink
from voslab.studio.internals import Internals
from voslab.video import Video, image_files
from voslab.video_session import VideoSession

DATASET = "dataset"
"""Name of the output that is a data set for training."""


def second_model(config: DictConfig, video: Video, folder: Path) -> tuple[VideoSession | None, Comparison | None]:
    """Load the model that is compared; without one, find the masks that one stored earlier.

    Args:
        config: Configuration of `src.annotate`.
        video: The video.
        folder: Folder of the session.

    Returns:
        The video with the second model, and its masks; None for what there is not.

    Raises:
        ConfigError, CheckpointError: See `Predictor.load`.
    """
    given = {key: value for key, value in plain(config.compare).items() if value is not None}
    if not given:
        return None, Comparison.latest(folder, video.size)
    engine = {key: config.engine[key] for key in ("size", "precision", "device")}
    predictor = Predictor.load(**given, **engine, cache=config.paths.cache)
    files = [Path(given[key]).resolve() for key in ("checkpoint", "weights", "base_weights") if key in given]
    name = ", ".join([predictor.model.name, *(file.name for file in files)])
    compared = Comparison.of_model(folder, name, " ".join(map(str, files)), video.size)
    return predictor.session(video), compared


def internals(model: LoadedModel, folder: Path, size: tuple[int, int]) -> Internals | None:
    """Return the internals that a method declares: images of its motion, or its feature maps; None without any.

    Args:
        model: The model.
        folder: Folder of the session.
        size: H, W of the video.
    """
    segmenter, settings, target = model.segmenter, model.settings, folder / "internals"
    if model.codec_source is not None and isinstance(segmenter, Propagates):
        return Internals(target, PANELS[1:5], lambda masks: MotionRecorder(size, segmenter, settings, masks))
    if segmenter.maps:
        return Internals(target, tuple(segmenter.maps), lambda _: MapRecorder(segmenter, settings))
    return None


def export(
    config: DictConfig, folder: Path, names: list[str], predictions: Iterator[Prediction], video: Video
) -> list[str]:
    """Write outputs of `src.segment`, and the data set for training, from stored masks.

    Args:
        config: Configuration of `src.annotate`.
        folder: Folder of the session.
        names: Names of outputs.
        predictions: Stored masks, in order.
        video: The video.

    Returns:
        Paths of the outputs.
    """
    others = [name for name in names if name != DATASET]
    sinks: dict[Path, Sink] = {}
    for each in saved_outputs(others).values() if others else ():
        sinks[folder / "export" / each.file] = each.open(folder / "export" / each.file, video)
    if DATASET in names:
        files = None if video.names is None else image_files(video.path)
        sinks[Path(config.dataset)] = DatasetSink(Path(config.dataset), folder.name, folder, files)
    consume(predictions, list(sinks.values()))
    return [str(path) for path in sinks]
