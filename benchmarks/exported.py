"""What `src.export` writes, run by onnxruntime, beside the same functions of the network as `src.evaluate` runs it.

    python -m benchmarks.exported [methods=stcn,stm,gam,crvos] [size=480x854] [memory=5] [threads=2] [rounds=3]

ResNet-50 as published, random weights, one object, `memory` frames in a memory that grows. A row per function: seconds
of onnxruntime over ours, the least of some rounds. A method whose graph differs by more than rounding ends it.
"""

from __future__ import annotations

import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.goals import options
from src.core.graphs import Graph
from src.launch.onnx import check_packages, compare, write_graph
from src.methods import registry
from src.nn.inference import for_inference

DEFAULTS = {"methods": "stcn,stm,gam,crvos", "size": "480x854", "memory": "5", "threads": "2", "rounds": "3"}


def main() -> None:
    """Print a row per function, and one for all of them."""
    given = options(DEFAULTS)
    check_packages()
    height, width = (int(side) for side in given["size"].split("x"))
    threads, rounds = torch.get_num_threads(), int(given["rounds"])
    print(f"{given['size']}, {given['memory']} frames in the memory, {threads} threads; onnxruntime over ours")
    for name in given["methods"].split(","):
        network: Any = registry.build(name, {})
        network.eval()
        fast = deepcopy(network)
        for_inference(fast)
        rows, columns = -(-height // network.stride), -(-width // network.stride)
        cells = rows * columns
        sizes = {"rows": rows, "columns": columns, "objects": 1, "memory": int(given["memory"]) * cells, "cells": cells}
        theirs = ours = 0.0
        for written, graph in zip(_graphs(name, network), _graphs(name, fast), strict=True):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "graph.onnx"
                write_graph(network, written, path, None)
                found = compare(fast, graph, path, sizes, rounds, threads)
            theirs, ours = theirs + found.seconds, ours + found.ours
            _show(f"{name} {graph.name}", found.seconds, found.ours)
        _show(f"{name}, all", theirs, ours)


def _graphs(name: str, network: nn.Module) -> tuple[Graph, ...]:
    graphs = registry.method(name).graphs()
    if graphs is None:
        raise SystemExit(f"error: {name} has no graphs")
    return graphs(network).graphs


def _show(name: str, theirs: float, ours: float) -> None:
    print(f"{name:<24}{theirs / ours:>7.2f}  {theirs * 1e3:.0f} over {ours * 1e3:.0f} ms", flush=True)


if __name__ == "__main__":
    main()
