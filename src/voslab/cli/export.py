"""A network for other runtimes: `python -m src.export model=stcn weights=FILE output=DIR`.

Writes `weights.safetensors`, which is `checkpoint=` for every other program, a method's functions of plain tensors as
ONNX, and `manifest.json`, which says how a video is segmented with them. Each graph has been run by onnxruntime first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from voslab.cli.entry import entry, plain
from voslab.cli.loading import write_weights
from voslab.cli.models import Model, load_model
from voslab.cli.onnx import Parity, check_packages, compare, described, write_graph
from voslab.core import ConfigError, Segmenter, atomic_path, atomic_write
from voslab.core.export_graph import Graph, Graphs, Shape
from voslab.engine.padding import pads
from voslab.engine.settings import Settings
from voslab.methods import registry
from voslab.nn.inference import for_inference

WEIGHTS = "weights.safetensors"
PADDING = {
    "zeros": "black, and no object",
    "mean": "the ImageNet mean [0.485, 0.456, 0.406], and no object",
    "reflect": "picture and masks mirrored without their edge, as often as needed",
}


@entry("export")
def main(config: DictConfig) -> None:
    """Write and check one graph after the other; without a manifest there is something wrong."""
    threads = _checked(config)
    model = load_model(config, as_trained=True)
    graphs = graphs_of(model)
    check_packages()
    settings, segmenter = model.settings, model.segmenter
    assert isinstance(segmenter, nn.Module)
    fast = deepcopy(segmenter)
    for_inference(fast)
    # What a file is compared with, in numbers and speed, is the network as other programs here run it.
    ours = graphs_of(replace(model, segmenter=fast)).graphs
    output, sizes = (
        Path(config.output),
        sizes_of(plain(config.size), config.objects, config.memory, segmenter, settings),
    )
    print(f"{model.name}: {', '.join(f'{name} {count}' for name, count in sizes.items())}, threads {threads}")
    (output / "manifest.json").unlink(missing_ok=True)
    metadata = {"method": model.name, "network": model.network, "engine": asdict(settings)}
    write_weights(segmenter, output / WEIGHTS, metadata)
    fixed = None if config.dynamic_axes else sizes
    written: dict[str, tuple[Graph, Parity]] = {}
    opset = 0
    for graph, own in zip(graphs.graphs, ours, strict=True):
        with atomic_path(output / f"{graph.name}.onnx") as path:
            opset = write_graph(segmenter, graph, path, fixed)
            parity = compare(fast, own, path, sizes, config.repeats, threads)
        written[graph.name] = graph, parity
        _show(graph, parity)
    manifest = {**metadata, "weights": WEIGHTS, "opset": opset, **_frame(segmenter, settings, plain(config.size))}
    manifest |= {"axes": _axes(segmenter, fixed), "graphs": [_told(*one, fixed) for one in written.values()]}
    manifest |= {"chain": graphs.chain, "aggregation": graphs.aggregation}
    atomic_write(output / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    print(f"manifest: {output / 'manifest.json'}")


def graphs_of(model: Model) -> Graphs:
    """The graphs of a model's method. Raises `ConfigError` where it has none."""
    found = registry.method(model.name).graphs()
    if found is None:
        base = model.network.get("base")
        instead = f"; its base '{base['name']}' may have" if isinstance(base, dict) else ""
        raise ConfigError(f"model '{model.name}' has no graphs to export{instead}")
    return found(model.segmenter)


def _checked(config: DictConfig) -> int:
    """Whether numbers make sense; gives the threads."""
    for name in ("objects", "memory", "repeats"):
        if config[name] < 1:
            raise ConfigError(f"{name}={config[name]}: must be at least 1")
    size = plain(config.size)
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
        raise ConfigError(f"size={size}: must be a height and a width, [480,854]")
    if config.checkpoint is None and config.weights is None:
        raise ConfigError("give checkpoint=FILE, or model=NAME weights=FILE: random weights are nothing to export")
    threads = torch.get_num_threads() if config.threads is None else config.threads
    if type(threads) is not int or threads < 1:
        raise ConfigError(f"threads={threads}: must be a whole number from 1 up")
    return threads


def sizes_of(
    size: list[int], objects: int, frames: int, segmenter: Segmenter[Any], settings: Settings
) -> dict[str, int]:
    """Sizes of all axes for pictures of a size."""
    rows, columns = (-(-side // segmenter.stride) for side in settings.working_size((size[0], size[1])))
    cells = rows * columns
    return {"rows": rows, "columns": columns, "objects": objects, "memory": frames * cells, "cells": cells}


def _frame(segmenter: Segmenter[Any], settings: Settings, size: list[int]) -> dict[str, Any]:
    """How a picture becomes `image`."""
    working = settings.working_size((size[0], size[1]))
    halves = "left and top" if segmenter.padding == "reflect" else "right and bottom"
    return {
        "image": "1 3 height width, RGB, float32 in [0, 1]; graphs normalise it themselves",
        "working_size": (
            "as the source"
            if settings.size is None
            else f"the shorter side reduced to {settings.size}, the ratio kept to the nearest pixel, smaller pictures "
            "as they are; bilinear with antialiasing, masks nearest"
        ),
        "padding": {
            "multiple_of": segmenter.stride,
            "where": f"half on each side, of an odd number the larger half {halves}",
            "with": PADDING[segmenter.padding],
        },
        "example": {
            "source": size,
            "working": working,
            "pads": pads(working, segmenter.stride, segmenter.padding)._asdict(),
        },
    }


def _axes(segmenter: Segmenter[Any], fixed: Mapping[str, int] | None) -> dict[str, str | int]:
    if fixed is not None:
        return dict(fixed)
    return {
        "rows": f"height of `image` / {segmenter.stride}",
        "columns": f"width of `image` / {segmenter.stride}",
        "cells": "rows * columns",
        "objects": "of the video",
        "memory": "positions: cells * frames, if whole frames are remembered",
    }


def _told(graph: Graph, parity: Parity, fixed: Mapping[str, int] | None) -> dict[str, Any]:
    def metadata(shapes: Mapping[str, Shape]) -> list[dict[str, Any]]:
        return [{"name": name, "shape": described(shape, fixed), "dtype": "float32"} for name, shape in shapes.items()]

    return {
        "name": graph.name,
        "file": f"{graph.name}.onnx",
        "about": graph.about,
        "inputs": metadata(graph.inputs),
        "outputs": metadata(graph.outputs),
        "largest_difference": dict(parity.differences),
    }


def _show(graph: Graph, parity: Parity) -> None:
    apart, share = max(parity.differences.values()), max(parity.shares.values())
    speed = f"onnxruntime {parity.seconds * 1e3:8.1f} ms  PyTorch {parity.ours * 1e3:8.1f} ms"
    print(f"{graph.name:<9} {speed}  largest difference {apart:.1e} ({share:.1e} of the largest value)", flush=True)


if __name__ == "__main__":
    main()
