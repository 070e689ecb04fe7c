"""Graphs of the default network in int8 against float32, both in onnxruntime: time of each graph, and J&F.

    python -m src.export checkpoint=weights/lite_stcn.safetensors output=exported
    python -m benchmarks.int8 graphs=exported data=DAVIS [videos=bear,…] [threads=1]

All graphs but `read` are quantised: weights per channel, activations per tensor with the ranges that they have on
frames of other training videos. J&F is the mean over frames and over the five held-out training videos.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.goals import options
from voslab.data.sources.davis import davis
from voslab.data.video_sequence import VideoSequence
from voslab.metrics import score_frame

DEFAULTS = {
    "graphs": "exported",
    "data": "data/DAVIS",
    "threads": "1",
    "videos": "bear,car-turn,dog-agility,motorbike,rollerblade",
    "calibration": "boat,bus,dance-jump,hockey,surf",
}
QUANTISED = ("encode", "memorise", "decode")
EVERY, BOUND, STRIDE, MEAN = 5, 3, 16, 127 / 255
"""Of `weights/lite_stcn.safetensors`: interval and number of the frames that stay in the memory, padding."""
CALIBRATION_FRAMES = 8
Tensors = dict[str, NDArray[Any]]


@dataclass
class Graphs:
    """The four graphs of STCN as a segmenter of one object.

    Attributes:
        sessions: by name.
        seconds: spent in each.
        inputs: of each call, by graph; None: they are not kept.
    """

    sessions: dict[str, onnxruntime.InferenceSession]
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    inputs: dict[str, list[Tensors]] | None = None

    def run(self, name: str, tensors: Tensors) -> Tensors:
        """Run a graph with those of the tensors that it takes; returns them with its outputs."""
        session = self.sessions[name]
        taken = {one.name: tensors[one.name] for one in session.get_inputs()}
        if self.inputs is not None:
            self.inputs[name].append(taken)
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


class Inputs(CalibrationDataReader):
    """Inputs of a graph that were kept."""

    def __init__(self, kept: list[Tensors]) -> None:
        self._kept = iter(kept)

    def get_next(self) -> Tensors | None:
        """Return the inputs of the next call; None after the last."""
        return next(self._kept, None)


def main() -> None:
    """Quantise the graphs, segment with both, and print a line for each."""
    given = options(DEFAULTS)
    folder, data, threads = Path(given["graphs"]), Path(given["data"]), int(given["threads"])
    names = (*QUANTISED, "read")
    paths = {name: folder / f"{name}.onnx" for name in names}
    observed = Graphs(sessions(paths, threads), inputs=defaultdict(list))
    for video in davis(data, year=2016, split="train", only=given["calibration"].split(",")):
        list(observed.segment(video, CALIBRATION_FRAMES))
    with tempfile.TemporaryDirectory() as temporary:
        small = {name: quantised(paths[name], observed, Path(temporary)) for name in QUANTISED}
        both = {"float32": Graphs(sessions(paths, threads)), "int8": Graphs(sessions({**paths, **small}, threads))}
        scores: dict[str, list[float]] = {name: [] for name in both}
        count = 0
        for video in davis(data, year=2016, split="train", only=given["videos"].split(",")):
            frames = zip(*(graphs.segment(video, len(video)) for graphs in both.values()), strict=True)
            found: dict[str, list[float]] = {name: [] for name in both}
            for index, masks in enumerate(frames, 1):
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
        stages = "  ".join(f"{stage} {1e3 * graphs.seconds[stage] / count:.1f} ms" for stage in names)
        print(f"{name:<8} J&F {100 * np.mean(scores[name]):.1f}  {stages}")


def sessions(paths: dict[str, Path], threads: int) -> dict[str, onnxruntime.InferenceSession]:
    """Load graphs."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    return {name: onnxruntime.InferenceSession(path, settings) for name, path in paths.items()}


def quantised(path: Path, observed: Graphs, folder: Path) -> Path:
    """Quantise a graph by the inputs that it had."""
    assert observed.inputs is not None
    plain, small = folder / f"{path.stem}_plain.onnx", folder / path.name
    quant_pre_process(path, plain, skip_symbolic_shape=True)
    quantize_static(
        plain,
        small,
        Inputs(observed.inputs[path.stem][::2]),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return small


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
