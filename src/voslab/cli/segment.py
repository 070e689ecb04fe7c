"""Segments a video from given masks: `python -m src.segment video=FILE mask=FILE checkpoint=FILE output=DIR`."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from voslab.cli.entry import run
from voslab.cli.messages import describe_key_frames, describe_outputs
from voslab.cli.models import load_model
from voslab.cli.saved_outputs import SavedOutput, saved_outputs
from voslab.cli.segment_many import segment_many
from voslab.cli.segment_video import Inputs, check_part, inspection_path, open_inputs, progress_bar, segment_video
from voslab.cli.video_pairs import has_many_videos
from voslab.core.signals import SIGNALS
from voslab.engine import Prediction, Throughput
from voslab.engine.device import find_device
from voslab.engine.positions import find_part
from voslab.predictor import Predictor
from voslab.video import Video


def main(config: DictConfig) -> None:
    """Write the outputs of `save` (see `OUTPUTS`) for one video or a folder of videos."""
    saved = saved_outputs(config.save)
    check_part(config)
    if has_many_videos(Path(config.video)):
        segment_many(config, saved)
    else:
        _segment_one(config, saved)


def _segment_one(config: DictConfig, saved: dict[str, SavedOutput]) -> None:
    inputs = open_inputs(config, config.video, config.mask)
    video = inputs.video
    model = load_model(config)
    model.warn_if_random()
    objects = ", ".join(map(str, inputs.objects))
    print(f"{config.video}: {video.size[1]}x{video.size[0]}, objects {objects}, {model.name}")
    output = Path(config.output)
    predictor = Predictor(model, find_device(config.engine.device))
    if "masks" in saved and (old := sorted((output / "masks").glob("*.png"))):
        print(f"{output / 'masks'}: {len(old)} masks of an earlier run are kept, except those of the same names")
    inspection = inspection_path(predictor, output)
    print(describe_outputs(output, _contents(config, saved, inspection)), flush=True)
    if video.stream is not None:
        print("Ctrl-C ends the stream and completes the files")
    throughput = _show_progress(config, inputs, predictor, saved)
    print(f"{throughput.frames} frames{_dropped(inputs)}, {throughput.frames_per_second:.2f} frames/s (network)")
    if model.codec_source is not None:
        print(describe_key_frames(throughput.keys, throughput.frames))
    for name, each in saved.items():
        print(f"{name}: {output / each.file}")
    if config.inspect:
        print(f"{inspection.stem}: {inspection}")
    print("next: to correct masks or add objects, mask=FOLDER with one mask per such frame, named by frame number")


def _show_progress(
    config: DictConfig, inputs: Inputs, predictor: Predictor, saved: dict[str, SavedOutput]
) -> Throughput:
    """Segment the video with a progress bar."""
    output = Path(config.output)
    with progress_bar() as progress:
        task = progress.add_task("segment", total=_count(config, inputs.video), speed="")

        def show(prediction: Prediction, throughput: Throughput) -> None:
            progress.update(task, advance=1, speed=f"{throughput.frames_per_second:.1f} frames/s")
            SIGNALS.detail = f" after {throughput.frames} frames{_dropped(inputs)}, which are in {output}"

        return segment_video(config, inputs, predictor, saved, output, show)


def _count(config: DictConfig, video: Video) -> int | None:
    """Return the number of frames of the part, for the progress bar; None if it is not known."""
    start, end = find_part(config.start, config.end, video.access)
    last = end if video.count is None else min(video.count - 1 if end is None else end, video.count - 1)
    return None if last is None else max(0, last - start + 1)


def _dropped(inputs: Inputs) -> str:
    """Return how many frames of a stream were dropped; nothing where none are."""
    stream = inputs.video.stream
    if stream is None or not stream.drop:
        return ""
    return f" ({stream.dropped} of {stream.frames} frames of the stream were dropped)"


def _contents(config: DictConfig, saved: dict[str, SavedOutput], inspection: Path) -> dict[str, str]:
    found = {each.file: each.description for each in saved.values()}
    if config.inspect:
        found[inspection.name] = "attention maps, or the motion that propagates masks"
    return found


if __name__ == "__main__":
    run("segment")
