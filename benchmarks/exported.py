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

from benchmarks.goals import options
from voslab.cli.export import graphs_of, sizes_of
from voslab.cli.models import Model
from voslab.cli.onnx import check_packages, compare, write_graph
from voslab.engine import Settings
from voslab.methods import registry
from voslab.nn.inference import for_inference

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
        settings = Settings(size=None)
        sizes = sizes_of([height, width], 1, int(given["memory"]), network, settings)
        pairs = (graphs_of(Model(name, one, settings)).graphs for one in (network, fast))
        theirs = ours = 0.0
        for written, graph in zip(*pairs, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "graph.onnx"
                write_graph(network, written, path, None)
                found = compare(fast, graph, path, sizes, rounds, threads)
            theirs, ours = theirs + found.seconds, ours + found.ours
            _show(f"{name} {graph.name}", found.seconds, found.ours)
        _show(f"{name}, all", theirs, ours)


def _show(name: str, theirs: float, ours: float) -> None:
    print(f"{name:<24}{theirs / ours:>7.2f}  {theirs * 1e3:.0f} over {ours * 1e3:.0f} ms", flush=True)


if __name__ == "__main__":
    main()
