"""Compares the speed of CoVOS over STCN with STCN alone, decoding included.

    python -m benchmarks.covos_speed [sequence=bear] [frames=22] [objects=1,5] [threads=2] [data=DIR] [MODEL OVERRIDES]

Both as published (ResNet-50, random weights) at 480p. Two B-frames lie between key frames, which is about the paper's
ratio of key frames, 37 %. STCN gets decoded frames; CoVOS decodes its file, which was encoded before.
Several objects are vertical strips of the frame.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from torch import nn

from benchmarks.goals import Goal, options, start
from voslab.cli.arguments import CONFIGS
from voslab.cli.models import load_model
from voslab.data.sources.davis import davis
from voslab.engine import run
from voslab.methods.builder import LoadedModel

DEFAULTS = {
    "sequence": "bear",
    "frames": "22",
    "objects": "1,5",
    "threads": "2",
    "data": f"{os.environ.get('VOS_DATA', 'data')}/DAVIS",
}
GOALS = {1: 1.8, 5: 2.4}
B_FRAME = 0.25
"""Most of the seconds of a key frame that a B-frame may take."""


def main() -> None:
    """Print a row per number of objects, and one for B-frames."""
    overrides = [argument for argument in sys.argv[1:] if argument.startswith("model.")]
    sys.argv = [argument for argument in sys.argv if argument not in overrides]
    given = options(DEFAULTS)
    [video] = davis(given["data"], 2016, "train", only=[given["sequence"]])
    if unknown := [count for count in given["objects"].split(",") if count not in map(str, GOALS)]:
        sys.exit(f"error: objects={unknown[0]}: there are goals for {' and '.join(map(str, GOALS))}")
    count = int(given["frames"])
    video = replace(video, images=video.images[:count], masks=video.masks[:count])
    images = [video.image(index) for index in range(len(video.images))]
    with tempfile.TemporaryDirectory() as cache:
        model = _model(overrides, cache)
        assert isinstance(model.segmenter, nn.Module)
        assert model.codec_source is not None
        base: Any = model.segmenter.get_submodule("base")
        list(model.codec_source.frames(video.images))  # encoded before the clock runs
        for count in map(int, given["objects"].split(",")):
            plain, _ = _seconds(base, images, count, model)
            ours, each = _seconds(model.segmenter, model.codec_source.frames(video.images), count, model)
            others = [seconds for seconds, key in each if not key]
            note = (
                f"{plain / len(images) * 1e3:.0f} ms a frame against {ours / len(images) * 1e3:.0f} ms, "
                f"{1 - len(others) / len(images):.0%} key frames"
            )
            Goal(f"covos over stcn, {count} object(s), times as fast", plain / ours, GOALS[count], "least", note).show()
            whole = float(np.mean([seconds for seconds, key in each if key]))
            note = f"{np.mean(others) * 1e3:.0f} ms against {whole * 1e3:.0f} ms"
            Goal(f"a B-frame over a key frame, {count}", np.mean(others) / whole, B_FRAME, "most", note).show()


def _seconds(segmenter: Any, source: Iterable[Any], objects: int, model: LoadedModel) -> tuple[float, list[Any]]:
    """Of a whole run, and of each frame in the network, behind the first, with whether it was a key frame."""
    begun = time.perf_counter()
    frames = iter(source)
    first: Any = next(frames)
    shape = getattr(first, "image", first).shape[:2]
    strips = np.broadcast_to(np.arange(shape[1]) * (objects + 1) // shape[1], shape).astype(np.int32)
    predictions = run(segmenter, chain([first], frames), {0: strips}, model.settings)
    rows = [(prediction.seconds, prediction.key) for prediction in predictions]
    return time.perf_counter() - begun, rows[1:]


def _model(overrides: list[str], cache: str) -> LoadedModel:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        encoding = ["model.encoding.bframes=2", "model.encoding.b_adapt=0"]
        arguments = ["model=covos", "model/base=stcn", "data=davis2016", f"paths.cache='{cache}'"]
        return load_model(compose("evaluate", [*arguments, *encoding, *overrides]))


if __name__ == "__main__":
    start(main)
