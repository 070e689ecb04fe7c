"""Graphs of the default network in int8 against float32, both in onnxruntime: time of each graph, and J&F.

    python -m src.export checkpoint=weights/lite_stcn.safetensors output=exported int8=VIDEO int8_mask=MASK
    python -m benchmarks.int8 graphs=exported data=DAVIS [videos=bear,…] [threads=1]

J&F is the mean over frames and over the five held-out training videos.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.goals import options
from voslab.data.sources.davis import davis
from voslab.data.video_sequence import VideoSequence
from voslab.metrics import score_frame

DEFAULTS = {
    "graphs": "exported",
    "data": "data/DAVIS",
    "threads": "1",
    "videos": "bear,car-turn,dog-agility,motorbike,rollerblade",
}
NAMES = ("encode", "memorise", "read", "decode")
EVERY, BOUND, STRIDE, MEAN = 5, 3, 16, 127 / 255
"""Of `weights/lite_stcn.safetensors`: interval and number of the frames that stay in the memory, padding."""
Tensors = dict[str, NDArray[Any]]


@dataclass
class Graphs:
    """The four graphs of STCN as a segmenter of one object.

    Attributes:
        sessions: by name.
        seconds: spent in each.
    """

    sessions: dict[str, onnxruntime.InferenceSession]
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def run(self, name: str, tensors: Tensors) -> Tensors:
        """Run a graph with those of the tensors that it takes; returns them with its outputs."""
        session = self.sessions[name]
        taken = {one.name: tensors[one.name] for one in session.get_inputs()}
        begun = time.perf_counter()
        outputs = session.run(None, taken)
        self.seconds[name] += time.perf_counter() - begun
        return {**tensors, **{one.name: value for one, value in zip(session.get_outputs(), outputs, strict=True)}}

    def segment(self, video: VideoSequence, frames: int) -> Iterator[NDArray[np.bool_]]:
        """Yield the mask of each frame after the first, as docs/onnx.md says."""
        first = video.labels(0)
        assert first is not None
        masks = padded((first == 1).astype(np.float32)[None, None], 0)
        before = self.run("encode", {"image": image(video, 0)})
        kept: list[Tensors] = []
        last = 0
        for index in range(1, frames):
            entry = self.run("memorise", {**before, "masks": masks})
            if index == 1 or index - 1 - last >= EVERY:
                kept = [*kept[:1], *kept[1:][-(BOUND - 2) :], entry] if len(kept) >= BOUND else [*kept, entry]
                last = index - 1
            memory = kept if kept[-1] is entry else [*kept, entry]
            joined = {name: np.concatenate([one[name] for one in memory], 2) for name in ("keys", "values")}
            before = self.run("encode", {"image": image(video, index)})
            masks = self.run("decode", {**self.run("read", {**before, **joined}), "masks": masks})["probabilities"][
                :, 1:
            ]
            height, width = first.shape
            top, left = (masks.shape[2] - height) // 2, (masks.shape[3] - width) // 2
            yield masks[0, 0, top : top + height, left : left + width] > 0.5


def main() -> None:
    """Segment with both, and print a line for each."""
    given = options(DEFAULTS)
    folder, threads = Path(given["graphs"]), int(given["threads"])
    plain = {name: folder / f"{name}.onnx" for name in NAMES}
    small = {name: folder / f"{name}.int8.onnx" for name in NAMES if name != "read"}
    both = {"float32": Graphs(sessions(plain, threads)), "int8": Graphs(sessions({**plain, **small}, threads))}
    scores: dict[str, list[float]] = {name: [] for name in both}
    count = 0
    for video in davis(Path(given["data"]), year=2016, split="train", only=given["videos"].split(",")):
        found: dict[str, list[float]] = {name: [] for name in both}
        masks_of_both = zip(*(graphs.segment(video, len(video)) for graphs in both.values()), strict=True)
        for index, masks in enumerate(masks_of_both, 1):
            truth = video.labels(index)
            if truth is None or index == len(video) - 1:
                continue
            for name, mask in zip(both, masks, strict=True):
                found[name].append(float(score_frame(mask.astype(np.uint8), truth, [1]).mean()))
        for name, values in found.items():
            scores[name].append(float(np.mean(values)))
        count += len(video) - 1
        print(video.name, *(f"{name} {100 * values[-1]:.1f}" for name, values in scores.items()), flush=True)
    for name, graphs in both.items():
        stages = "  ".join(f"{stage} {1e3 * graphs.seconds[stage] / count:.1f} ms" for stage in NAMES)
        print(f"{name:<8} J&F {100 * np.mean(scores[name]):.1f}  {stages}")


def sessions(paths: dict[str, Path], threads: int) -> dict[str, onnxruntime.InferenceSession]:
    """Load graphs."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    return {name: onnxruntime.InferenceSession(path, settings) for name, path in paths.items()}


def image(video: VideoSequence, index: int) -> NDArray[np.float32]:
    """A padded frame, 1 3 H W."""
    return padded(video.image(index).transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255), MEAN)


def padded(x: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    """Pad height and width to multiples of the stride."""
    extra = [-size % STRIDE for size in x.shape[2:]]
    sides = [(0, 0), (0, 0), *((size // 2, size - size // 2) for size in extra)]
    return np.pad(x, sides, constant_values=value)


if __name__ == "__main__":
    main()
