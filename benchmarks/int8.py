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
import torch
from numpy.typing import NDArray

from benchmarks.goals import HELD_OUT, options, start
from voslab.cli.int8 import prepared
from voslab.cli.onnx import open_graph
from voslab.data.sources.davis import davis
from voslab.data.video_sequence import VideoSequence
from voslab.engine.padding import crop
from voslab.methods.builder import LoadedModel, from_checkpoint
from voslab.metrics import score_frame

DEFAULTS = {
    "graphs": "exported",
    "data": "data/DAVIS",
    "threads": "1",
    "videos": HELD_OUT,
}
NAMES = ("encode", "memorise", "read", "decode")
Tensors = dict[str, NDArray[Any]]


@dataclass
class Graphs:
    """The four graphs of STCN as a segmenter of one object, at the size of its frames.

    Attributes:
        model: the network, for its memory's policy and padding.
        sessions: by name.
        seconds: spent in each.
    """

    model: LoadedModel
    sessions: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def run(self, name: str, tensors: Tensors) -> Tensors:
        """Run a graph with those of the tensors that it takes; returns them with its outputs."""
        session = self.sessions[name]
        taken = {one.name: tensors[one.name] for one in session.get_inputs()}
        begun = time.perf_counter()
        outputs = session.run(None, taken)
        self.seconds[name] += time.perf_counter() - begun
        return {**tensors, **{one.name: value for one, value in zip(session.get_outputs(), outputs, strict=True)}}

    def segment(self, video: VideoSequence) -> Iterator[NDArray[np.bool_]]:
        """Yield the mask of each frame after the first, as docs/onnx.md says."""
        network: Any = self.model.segmenter
        every, bound = network.memory_every, network.memory_bound
        image, pads = prepared(video.image(0), network, self.model.settings)
        first = video.labels(0)
        assert first is not None
        sides = ((0, 0), (0, 0), (pads.top, pads.bottom), (pads.left, pads.right))
        masks = np.pad((first == 1).astype(np.float32)[None, None], sides)
        before = self.run("encode", {"image": image})
        kept: list[Tensors] = []
        last = 0
        for index in range(1, len(video)):
            entry = self.run("memorise", {**before, "masks": masks})
            if index == 1 or index - 1 - last >= every:
                kept = [*kept[:1], *kept[1:][-(bound - 2) :], entry] if len(kept) >= bound else [*kept, entry]
                last = index - 1
            memory = kept if kept[-1] is entry else [*kept, entry]
            joined = {name: np.concatenate([one[name] for one in memory], 2) for name in ("keys", "values")}
            before = self.run("encode", {"image": prepared(video.image(index), network, self.model.settings)[0]})
            read = self.run("read", {**before, **joined})
            masks = self.run("decode", {**read, "masks": masks})["probabilities"][:, 1:]
            yield crop(torch.from_numpy(masks[0, 0]), pads).numpy() > 0.5


def main() -> None:
    """Segment with both, and print a line for each."""
    given = options(DEFAULTS)
    folder, threads = Path(given["graphs"]), int(given["threads"])
    model = from_checkpoint(folder / "weights.safetensors", as_trained=True)
    plain = {name: open_graph(folder / f"{name}.onnx", threads) for name in NAMES}
    small = {name: open_graph(folder / f"{name}.int8.onnx", threads) for name in NAMES if name != "read"}
    both = {"float32": Graphs(model, plain), "int8": Graphs(model, {**plain, **small})}
    scores: dict[str, list[float]] = {name: [] for name in both}
    count = 0
    for video in davis(Path(given["data"]), year=2016, split="train", only=given["videos"].split(",")):
        found: dict[str, list[float]] = {name: [] for name in both}
        masks_of_both = zip(*(graphs.segment(video) for graphs in both.values()), strict=True)
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


if __name__ == "__main__":
    start(main)
