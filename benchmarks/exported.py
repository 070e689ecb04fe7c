"""Times the graphs of `src.export` in onnxruntime against the same functions in PyTorch.

    python -m benchmarks.exported [methods=stcn,stm,gam,crvos] [size=480x854] [memory=5] [threads=2] [rounds=3]

ResNet-50 as published, random weights, one object, `memory` frames in a growing memory. Prints one row per function:
the time in onnxruntime divided by the time in PyTorch, the fastest of some rounds. Stops if a graph differs from
PyTorch by more than rounding.
"""

from __future__ import annotations

import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from benchmarks.goals import options, start
from voslab.cli.export import graphs_of, sizes_of
from voslab.cli.onnx import check_packages, compare, write_graph
from voslab.core.checkpoint import CheckpointMetadata
from voslab.engine import Settings
from voslab.methods import registry
from voslab.methods.builder import LoadedModel
from voslab.nn.inference import for_inference

DEFAULTS = {"methods": "stcn,stm,gam,crvos", "size": "480x854", "memory": "5", "threads": "2", "rounds": "3"}


def main() -> None:
    """Print one row per function and one for their sum."""
    given = options(DEFAULTS)
    check_packages()
    height, width = (int(side) for side in given["size"].split("x"))
    threads, rounds = torch.get_num_threads(), int(given["rounds"])
    print(f"{given['size']}, {given['memory']} frames in the memory, {threads} threads; onnxruntime / PyTorch")
    for name in given["methods"].split(","):
        network: Any = registry.build(name, {})
        network.eval()
        fast = deepcopy(network)
        for_inference(fast)
        settings = Settings(size=None)
        sizes = sizes_of([height, width], 1, int(given["memory"]), network, settings)
        pairs = (graphs_of(LoadedModel(one, settings, CheckpointMetadata(name, {}))) for one in (network, fast))
        onnx_seconds = torch_seconds = 0.0
        for written, graph in zip(*pairs, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "graph.onnx"
                write_graph(network, written, path, None)
                found = compare(fast, graph, path, sizes, rounds, threads)
            onnx_seconds, torch_seconds = onnx_seconds + found.onnx_seconds, torch_seconds + found.torch_seconds
            _show(f"{name} {graph.name}", found.onnx_seconds, found.torch_seconds)
        _show(f"{name}, all", onnx_seconds, torch_seconds)


def _show(name: str, onnx_seconds: float, torch_seconds: float) -> None:
    ratio = onnx_seconds / torch_seconds
    print(f"{name:<24}{ratio:>7.2f}  {onnx_seconds * 1e3:.0f} / {torch_seconds * 1e3:.0f} ms", flush=True)


if __name__ == "__main__":
    start(main)
