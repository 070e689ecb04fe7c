"""Segments a video from given masks: `python -m src.segment video=FILE mask=FILE checkpoint=FILE output=DIR`."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from voslab.cli.entry import run
from voslab.cli.messages import describe_outputs
from voslab.cli.models import load_model
from voslab.cli.saved_outputs import SavedOutput, saved_outputs
from voslab.core import DataError, claimed, object_ids
from voslab.core.files import remove_partial
from voslab.core.signals import SIGNALS
from voslab.engine import Prediction, Throughput, consume
from voslab.engine.device import find_device
from voslab.engine.feature_maps import MapSink
from voslab.methods.builder import LoadedModel
from voslab.methods.covos.inspection import MotionSink
from voslab.predictor import Predictor
from voslab.video import MaskOptions, Video, open_video, read_masks
from voslab.video.masks import MaskFiles


def main(config: DictConfig) -> None:
    """Write the outputs of `save` (see `OUTPUTS`), and on request `inspect.mp4` or `maps/`."""
    saved = saved_outputs(config.save)
    video = open_video(config.video)
    options = MaskOptions(config.mask_colors, config.mask_void, config.mask_resize)
    count = video.count if video.names else None
    masks = read_masks(config.mask, count, video.names, video.size, options)
    objects = next((ids for labels in masks.values() if (ids := object_ids(labels))), [])
    if not objects:
        void = "" if options.void is None else f" or void (mask_void={options.void})"
        raise DataError(f"{config.mask}: there is no object in it, every pixel is 0{void}")
    model = load_model(config)
    model.warn_if_random()
    print(f"{config.video}: {video.size[1]}x{video.size[0]}, objects {', '.join(map(str, objects))}, {model.name}")
    output = Path(config.output)
    with claimed(output):
        folders = [output / each.file for each in saved.values() if each.file.endswith("/")]
        remove_partial(output, *folders, *(path for folder in (*folders, output / "maps") for path in folder.glob("*")))
        _segment(config, video, masks, model, saved)


def _segment(
    config: DictConfig, video: Video, masks: MaskFiles, model: LoadedModel, saved: dict[str, SavedOutput]
) -> None:
    output = Path(config.output)
    sinks = [each.open(output / each.file, video) for each in saved.values()]
    if "masks" in saved and (old := sorted((output / "masks").glob("*.png"))):
        print(f"{output / 'masks'}: {len(old)} masks of an earlier run are kept, except those of the same names")
    inspection = output / ("maps" if model.codec_source is None else "inspect.mp4")
    if config.inspect and model.codec_source is None:
        sinks.append(MapSink(inspection, model.segmenter, model.settings))
    elif config.inspect:
        sinks.append(MotionSink(inspection, video.rate, video.size, model.segmenter, model.settings, masks))
    print(describe_outputs(output, _contents(config, saved, inspection)), flush=True)
    with _progress() as progress:
        task = progress.add_task("segment", total=video.count, speed="")
        key_frames = 0

        def show(prediction: Prediction, throughput: Throughput) -> None:
            nonlocal key_frames
            key_frames += prediction.key
            progress.update(task, advance=1, speed=f"{throughput.frames_per_second:.1f} frames/s")
            SIGNALS.detail = f" after {throughput.frames} frames, which are in {output}"

        predictor = Predictor(model, find_device(config.engine.device))
        soft = any(each.probabilities for each in saved.values())
        predictions = predictor.segment(video, masks, probabilities=soft, mask_scope=config.mask_scope)
        throughput = consume(predictions, sinks, show)
    print(f"{throughput.frames} frames, {throughput.frames_per_second:.2f} frames/s (network)")
    if model.codec_source is not None:
        print(_describe_key_frames(key_frames, throughput.frames))
    for name, each in saved.items():
        print(f"{name}: {output / each.file}")
    if config.inspect:
        print(f"{inspection.stem}: {inspection}")
    print("next: to correct masks or add objects, mask=FOLDER with one mask per such frame, named by frame number")


def _describe_key_frames(key_frames: int, frames: int) -> str:
    """Return the share of frames that the base of CoVOS segments."""
    share = f"key frames: {key_frames} of {frames} ({key_frames / max(1, frames):.0%})"
    return share if key_frames < frames else f"{share}; no B-frame is propagated, so the result is that of the base"


def _contents(config: DictConfig, saved: dict[str, SavedOutput], inspection: Path) -> dict[str, str]:
    found = {each.file: each.description for each in saved.values()}
    if config.inspect:
        found[inspection.name] = "attention maps, or the motion that propagates masks"
    return found


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[speed]}"),
    )


if __name__ == "__main__":
    run("segment")
