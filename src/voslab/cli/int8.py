"""Quantises exported graphs to int8, by the ranges that their activations have on a video."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voslab.cli.onnx import Array, first_line, open_graph
from voslab.core import ConfigError, ExportError, Frame, Segmenter, atomic_path, object_ids
from voslab.core.export_graph import ExportGraph
from voslab.engine.padding import Pads, pad
from voslab.engine.preprocessing import working_image, working_masks
from voslab.engine.settings import Settings
from voslab.video.masks import read_masks
from voslab.video.reader import open_video

FRAMES = 24
"""Frames of the video that are used."""
CPU = torch.device("cpu")
READ = "read"
"""The graph without weights, which stays in float32."""


@dataclass(frozen=True, slots=True)
class Clip:
    """The beginning of a video.

    Attributes:
        frames: padded frames, each 1 3 H W.
        masks: masks of the first one, 1 O H W.
    """

    frames: Sequence[Array]
    masks: Array


@dataclass(frozen=True, slots=True)
class Quantised:
    """The outcome of `quantise`.

    Attributes:
        files: int8 files by graph.
        speedup: time of these graphs in float32 over that in int8.
        agreement: mean IoU of the masks with those in float32, over frames and objects; None without predicted masks.
        frames: number of frames that were used.
    """

    files: Mapping[str, Path]
    speedup: float
    agreement: float | None
    frames: int


@dataclass
class Chain:
    """Graphs in onnxruntime, where each frame has the one before as its only memory.

    Graphs with an input that no other graph computes, such as a sensory memory, do not run.

    Attributes:
        graphs: in their order.
        sessions: of onnxruntime, by graph.
        seconds: spent in each graph.
        inputs: of each call, by graph; None: they are not kept.
    """

    graphs: Sequence[ExportGraph]
    sessions: Mapping[str, Any]
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    inputs: dict[str, list[dict[str, Array]]] | None = None

    def run(self, clip: Clip) -> list[NDArray[np.intp]]:
        """Return the label map of each frame after the first; empty if `decode` does not run."""
        tensors = {"image": clip.frames[0], "masks": clip.masks}
        first, *rest = self.graphs
        memorise = [graph for graph in rest if graph.name == "memorise"]
        self._run(first, tensors)
        found = []
        for frame in clip.frames[1:]:
            for graph in memorise:
                self._run(graph, tensors)
            tensors["image"] = frame
            for graph in (first, *(graph for graph in rest if graph not in memorise)):
                self._run(graph, tensors)
            if (probabilities := tensors.pop("probabilities", None)) is not None:
                tensors["masks"] = probabilities[:, 1:]
                found.append(probabilities[0].argmax(0))
        return found

    def _run(self, graph: ExportGraph, tensors: dict[str, Array]) -> None:
        """Run a graph with the tensors that it takes, and add its outputs to them."""
        if not graph.inputs.keys() <= tensors.keys():
            return
        taken = {name: tensors[name] for name in graph.inputs}
        if self.inputs is not None and graph.name != READ:
            self.inputs[graph.name].append(taken)
        begun = time.perf_counter()
        outputs = self.sessions[graph.name].run(list(graph.outputs), taken)
        self.seconds[graph.name] += time.perf_counter() - begun
        tensors |= dict(zip(graph.outputs, outputs, strict=True))


def read_clip(video: str, mask: str, segmenter: Segmenter[Any], settings: Settings) -> Clip:
    """Read the first frames of a video, and the mask of the first one, as the engine prepares them.

    Args:
        video: a video file or a folder of images.
        mask: mask of frame 0, as `src.segment` takes it.
        segmenter: the network, for its padding.
        settings: for the working size.

    Returns:
        the clip, of at least two frames.

    Raises:
        VideoError: if the video cannot be read.
        DataError: if the mask cannot be read.
        ConfigError: if the video has one frame only, or the mask holds no object of frame 0.
    """
    opened = open_video(video)
    images = [raw.image for raw in islice(opened, FRAMES)]
    if len(images) < 2:
        raise ConfigError(f"int8={video}: has one frame only; give a video of at least two")
    labels = read_masks(mask, names=opened.names, size=images[0].shape[:2]).get(0)
    ids = [] if labels is None else object_ids(labels)
    if labels is None or not ids:
        raise ConfigError(f"int8_mask={mask}: holds no object of frame 0")
    masks = working_masks(labels, ids, settings, CPU)
    first, padded, _ = pad(_frame(images[0], settings), masks, segmenter.stride, segmenter.padding, segmenter.mean)
    assert padded is not None
    others = (prepared(image, segmenter, settings)[0] for image in images[1:])
    return Clip([first.image.numpy(), *others], padded.probs.numpy())


def prepared(image: NDArray[np.uint8], segmenter: Segmenter[Any], settings: Settings) -> tuple[Array, Pads]:
    """Return a frame H W 3 as graphs take it, 1 3 h w, and its padding."""
    frame, _, pads = pad(_frame(image, settings), None, segmenter.stride, segmenter.padding, segmenter.mean)
    return frame.image.numpy(), pads


def _frame(image: NDArray[np.uint8], settings: Settings) -> Frame:
    return Frame(0, working_image(image, settings, CPU))


def quantise(folder: Path, graphs: Sequence[ExportGraph], clip: Clip, threads: int) -> Quantised:
    """Write `NAME.int8.onnx` beside each file `NAME.onnx` whose graph runs in a `Chain` and has weights.

    Weights are quantised per channel, activations per tensor. Reading a memory has no weights and stays in float32.

    Args:
        folder: folder of the float32 files.
        graphs: their graphs, in order.
        clip: frames on which the ranges of activations are measured.
        threads: CPU threads.

    Returns:
        the files, and how they compare with float32.

    Raises:
        ExportError: if onnxruntime cannot quantise or run a graph.
    """
    paths = {graph.name: folder / f"{graph.name}.onnx" for graph in graphs}
    try:
        sessions = {name: open_graph(path, threads) for name, path in paths.items()}
        inputs: dict[str, list[dict[str, Array]]] = defaultdict(list)
        plain = Chain(graphs, sessions, inputs=inputs)
        expected = plain.run(clip)
        files = {name: _quantise(paths[name], folder / f"{name}.int8.onnx", taken) for name, taken in inputs.items()}
        small = Chain(graphs, {**sessions, **{name: open_graph(path, threads) for name, path in files.items()}})
        found = small.run(clip)
    # The exceptions of onnxruntime have no common base class.
    except Exception as error:
        raise ExportError(f"the graphs cannot be quantised ({first_line(error)})") from error
    ratios = [_agreement(ours, theirs) for ours, theirs in zip(found, expected, strict=True)]
    speedup = sum(plain.seconds[name] for name in files) / sum(small.seconds[name] for name in files)
    return Quantised(files, speedup, float(np.mean(ratios)) if ratios else None, len(clip.frames))


def _quantise(path: Path, target: Path, inputs: list[dict[str, Array]]) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Inputs(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(inputs)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.rest, None)

    with _quiet(), TemporaryDirectory() as folder, atomic_path(target) as written:
        prepared = Path(folder) / path.name
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            written,
            Inputs(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return target


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence advice that onnxruntime logs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _agreement(ours: NDArray[np.intp], theirs: NDArray[np.intp]) -> float:
    """Return the mean IoU of the objects in either of two label maps; 1 if there are none."""
    # Imported here, as metrics bring torchmetrics along, which the rest of the export does without.
    from voslab.metrics import jaccard

    ratios = [jaccard(ours == i, theirs == i) for i in np.union1d(ours, theirs) if i]
    return float(np.mean(ratios)) if ratios else 1.0
