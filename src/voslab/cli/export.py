"""Writes a network as ONNX files: `python -m src.export model=stcn weights=FILE output=DIR`.

The output folder holds `weights.safetensors` (a checkpoint for every other program), one ONNX file per graph, with
`int8=VIDEO` a second one in int8, and `manifest.json` with shapes, padding and differences from PyTorch. `docs/onnx.md`
explains how to run the graphs.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from voslab.cli.entry import plain, run
from voslab.cli.int8 import Quantised, quantise, read_clip
from voslab.cli.models import load_model
from voslab.cli.onnx import Parity, check_packages, compare, described, write_graph
from voslab.core import ConfigError, Segmenter, atomic_path, atomic_write
from voslab.core.checkpoint import CheckpointMetadata
from voslab.core.export_graph import ExportGraph, Shape
from voslab.core.parameters import Side, fits
from voslab.engine.padding import pads
from voslab.engine.settings import Settings
from voslab.methods import registry
from voslab.methods.builder import LoadedModel
from voslab.methods.checkpoint import write_weights
from voslab.nn.inference import for_inference

WEIGHTS = "weights.safetensors"
DOCUMENT = "docs/onnx.md"


def main(config: DictConfig) -> None:
    """Write and check the graphs one by one; the manifest is written last, once all graphs have passed."""
    threads = _checked(config)
    model = load_model(config, as_trained=True)
    graphs = graphs_of(model)
    check_packages()
    settings, segmenter = model.settings, model.segmenter
    clip = read_clip(config.int8, config.int8_mask, segmenter, settings) if config.int8 is not None else None
    # The reference for numbers and times is the network as the other programs run it.
    fast = deepcopy(segmenter)
    for_inference(fast)
    output, source = Path(config.output), plain(config.size)
    sizes = sizes_of(source, config.objects, config.memory, segmenter, settings)
    print(f"{model.name}: {', '.join(f'{name} {count}' for name, count in sizes.items())}, threads {threads}")
    for old in (output / "manifest.json", *output.glob("*.int8.onnx")):
        old.unlink(missing_ok=True)
    metadata = CheckpointMetadata(model.name, model.metadata.network, asdict(settings))
    write_weights(segmenter, output / WEIGHTS, metadata)
    fixed = None if config.dynamic_axes else sizes
    opset, entries = 0, []
    for graph, reference in zip(graphs, graphs_of(replace(model, segmenter=fast)), strict=True):
        with atomic_path(output / f"{graph.name}.onnx") as path:
            opset = write_graph(segmenter, graph, path, fixed)
            parity = compare(fast, reference, path, sizes, config.repeats, threads)
        entries.append(_graph_entry(graph, parity, fixed))
        _show(graph, parity)
    quantised = None if clip is None else quantise(output, graphs, clip, threads)
    if quantised is not None:
        _show_int8(quantised)
        for entry in entries:
            if (file := quantised.files.get(entry["name"])) is not None:
                entry["int8"] = file.name
    facts = {
        "documentation": DOCUMENT,
        "method": model.name,
        "network": _defaults(model.name) | metadata.network,
        "engine": metadata.engine,
        "weights": WEIGHTS,
        "opset": opset,
        "frame": _frame(segmenter, settings, source),
        "sizes": fixed,
        "int8": None if quantised is None else {"frames": quantised.frames, "agreement": quantised.agreement},
        "graphs": entries,
    }
    atomic_write(output / "manifest.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    print(f"manifest: {output / 'manifest.json'}; {DOCUMENT} explains how to run the graphs")


def graphs_of(model: LoadedModel) -> tuple[ExportGraph, ...]:
    """Return the graphs of a model in the order in which they run.

    Args:
        model: the model.

    Returns:
        Its graphs.

    Raises:
        ConfigError: if its method has no graphs.
    """
    graphs = registry.method(model.name).graphs()
    if graphs is None:
        base = model.metadata.network.get("base")
        hint = f"; export its base '{base['name']}' instead" if isinstance(base, dict) else ""
        raise ConfigError(f"model '{model.name}' has no graphs to export{hint}")
    return graphs(model.segmenter)


def sizes_of(
    size: list[int], objects: int, frames: int, segmenter: Segmenter[Any], settings: Settings
) -> dict[str, int]:
    """Return the size of every axis by name.

    Args:
        size: height and width of the source frames in pixels.
        objects: number of objects.
        frames: number of frames in the memory.
        segmenter: the network, for its stride.
        settings: for the working size.
    """
    rows, columns = (-(-side // segmenter.stride) for side in settings.working_size((size[0], size[1])))
    cells = rows * columns
    return {"rows": rows, "columns": columns, "objects": objects, "memory": frames * cells, "cells": cells}


def _checked(config: DictConfig) -> int:
    """Check the values of a configuration and return the number of threads."""
    for name in ("objects", "memory", "repeats"):
        if config[name] < 1:
            raise ConfigError(f"{name}={config[name]}: must be at least 1")
    size = plain(config.size)
    if not isinstance(size, list) or len(size) != 2 or not all(fits(side, Side) for side in size):
        raise ConfigError(f"size={size}: must be a height and a width of at most 16384 pixels, [480,854]")
    if config.checkpoint is None and config.weights is None:
        raise ConfigError("give checkpoint=FILE, or model=NAME weights=FILE: random weights cannot be exported")
    if (config.int8 is None) != (config.int8_mask is None):
        raise ConfigError("int8=VIDEO goes with int8_mask=MASK, the mask of its first frame")
    if config.int8 is not None and not config.dynamic_axes:
        raise ConfigError("int8=VIDEO goes with dynamic_axes=true")
    threads = torch.get_num_threads() if config.threads is None else config.threads
    if type(threads) is not int or threads < 1:
        raise ConfigError(f"threads={threads}: must be a whole number of at least 1")
    return threads


def _defaults(method: str) -> dict[str, Any]:
    """Return the default values of a network's parameters, so that the manifest states all of them."""
    parameters = inspect.signature(registry.method(method).network()).parameters
    return {name: one.default for name, one in parameters.items() if one.default is not one.empty}


def _frame(segmenter: Segmenter[Any], settings: Settings, source: list[int]) -> dict[str, Any]:
    """Return the facts that turn a source frame into the input `image`, with the given source size as an example."""
    working = settings.working_size((source[0], source[1]))
    return {
        "layout": "NCHW",
        "channels": "RGB",
        "dtype": "float32",
        "range": [0, 1],
        "normalised_inside": True,
        "max_shorter_side": settings.size,
        "stride": segmenter.stride,
        "padding": segmenter.padding,
        "mean": list(segmenter.mean),
        "example": {
            "source": source,
            "working": working,
            "pads": pads(working, segmenter.stride, segmenter.padding)._asdict(),
        },
    }


def _graph_entry(graph: ExportGraph, parity: Parity, fixed: Mapping[str, int] | None) -> dict[str, Any]:
    """Return a graph's entry in the manifest."""

    def tensors(shapes: Mapping[str, Shape]) -> list[dict[str, Any]]:
        return [{"name": name, "shape": described(shape, fixed), "dtype": "float32"} for name, shape in shapes.items()]

    return {
        "name": graph.name,
        "file": f"{graph.name}.onnx",
        "inputs": tensors(graph.inputs),
        "outputs": tensors(graph.outputs),
        "largest_difference": dict(parity.absolute),
    }


def _show(graph: ExportGraph, parity: Parity) -> None:
    absolute, relative = max(parity.absolute.values()), max(parity.relative.values())
    times = f"onnxruntime {parity.onnx_seconds * 1e3:8.1f} ms  PyTorch {parity.torch_seconds * 1e3:8.1f} ms"
    difference = f"largest difference {absolute:.1e} ({relative:.1e} of the largest value)"
    print(f"{graph.name:<9} {times}  {difference}", flush=True)


def _show_int8(quantised: Quantised) -> None:
    agreement = quantised.agreement
    masks = "" if agreement is None else f", masks agree with those of float32 by {agreement:.1%} (IoU)"
    print(
        f"int8: {', '.join(quantised.files)}, {quantised.speedup:.2f} times as fast{masks}, {quantised.frames} frames"
    )


if __name__ == "__main__":
    run("export")
