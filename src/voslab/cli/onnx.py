"""Graphs as ONNX files, and whether onnxruntime computes with them what the network computes.

Needs the packages of the extra `export`, which are imported where they are used.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voslab.core import ConfigError, ExportError, generator
from voslab.core.export_graph import Axis, Function, Graph, Shape

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
"""Largest difference of an output that is taken for rounding, as a share of its largest value."""
LARGEST = 2**24
"""Of an axis that is known at run time only."""
TRACED = {"rows": 4, "columns": 6, "objects": 2, "memory": 48, "cells": 24}
"""Sizes with which a graph is traced whose own are not known: none equals another's, none is 1."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Parity:
    """A graph in onnxruntime beside the network's own function.

    Attributes:
        differences: largest absolute difference, by output.
        shares: the same, as a share of the output's largest value.
        seconds: of a call in onnxruntime, the best of some.
        ours: of the network's own.
    """

    differences: Mapping[str, float]
    shares: Mapping[str, float]
    seconds: float
    ours: float


def check_packages() -> None:
    """Raise `ConfigError` where a package is missing."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ConfigError(f"export needs {', '.join(missing)}: pip install .[export]")


def write_graph(network: nn.Module, graph: Graph, path: Path, sizes: Mapping[str, int] | None) -> int:
    """Write a graph of a network in evaluation mode, its parameters inside.

    Args:
        network: whose function it is.
        graph: what is written.
        path: of the file.
        sizes: of all axes, by name, fixed in the file; None: they stay free.

    Returns:
        the version of the operator set.

    Raises:
        ExportError: the exporter cannot write it, or not with free sizes.
    """
    dynamic_axes = sizes is None
    inputs = tuple(torch.from_numpy(array) for array in draw(graph, sizes or TRACED).values())
    axes = {name: torch.export.Dim(name, min=1, max=LARGEST) for name in TRACED}

    def dynamic(shape: Shape) -> dict[int, Any]:
        named = {place: axis for place, axis in enumerate(shape) if isinstance(axis, Axis)}
        return {place: axes[name] if times == 1 else times * axes[name] for place, (name, times, _) in named.items()}

    shapes = tuple(dynamic(shape) for shape in graph.inputs.values())
    names = {"input_names": list(graph.inputs), "output_names": list(graph.outputs)}
    with _quiet(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                Function(network, graph.function).eval(),
                inputs,
                dynamo=True,
                verbose=False,
                dynamic_shapes=(shapes,) if dynamic_axes else None,
                **names,  # type: ignore[arg-type]
            )
            program.save(path, external_data=False)
        except (torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
            raise ExportError(f"graph '{graph.name}' cannot be written ({_reason(error)})") from error
    model = program.model
    for value, shape in zip(model.graph.inputs, shapes, strict=True):
        if dynamic_axes and any(isinstance(value.shape[place], int) for place in shape):
            raise ExportError(f"graph '{graph.name}': '{value.name}' has fixed sizes; say free=false")
    return int(model.opset_imports[""])


def compare(
    network: nn.Module, graph: Graph, path: Path, sizes: Mapping[str, int], repeats: int, threads: int
) -> Parity:
    """Run a file of `write_graph` and the network's own function on the same random input.

    Args:
        network: in evaluation mode, on the CPU.
        graph: what the file holds.
        path: the file.
        sizes: of all axes, by name.
        repeats: timed calls of each, after one that is not.
        threads: of the CPU, for both.

    Raises:
        ExportError: onnxruntime cannot run the file, or an output differs by more than `TOLERANCE`.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    inputs = draw(graph, sizes)
    tensors = [torch.from_numpy(array) for array in inputs.values()]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        found, seconds = _timed(lambda: session.run(list(graph.outputs), inputs), repeats)
        with torch.no_grad():
            expected, ours = _timed(lambda: Function(network, graph.function).eval()(*tensors), repeats)
    # onnxruntime's own errors share no base.
    except Exception as error:
        raise ExportError(f"graph '{graph.name}' does not run in onnxruntime ({_reason(error)})") from error
    finally:
        torch.set_num_threads(before)
    differences, shares = {}, {}
    for (name, shape), array, tensor in zip(graph.outputs.items(), found, expected, strict=True):
        assert tensor.shape == at(shape, sizes), f"'{name}' of graph '{graph.name}' is {tuple(tensor.shape)}"
        differences[name], shares[name] = difference(array, tensor)
        if not shares[name] <= TOLERANCE:
            raise ExportError(
                f"graph '{graph.name}': '{name}' of onnxruntime differs from PyTorch's by {differences[name]:.2g}, "
                f"{shares[name]:.2g} of its largest value (at most {TOLERANCE:g})"
            )
    return Parity(differences, shares, seconds, ours)


def difference(found: Array, expected: Tensor) -> tuple[float, float]:
    """Largest absolute difference, and as a share of the largest expected value; infinite for another shape."""
    truth = expected.numpy()
    if found.shape != truth.shape:
        return float("inf"), float("inf")
    apart = float(np.abs(found - truth).max(initial=0))
    return apart, apart / max(float(np.abs(truth).max(initial=0)), 1e-30)


def draw(graph: Graph, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Random input by name: pictures and masks in [0, 1]; features so far apart that a read has clear winners."""
    found = {}
    for name, shape in graph.inputs.items():
        numbers, size = generator("export", graph.name, name), at(shape, sizes)
        drawn = numbers.random(size) if name in ("image", "masks", "past") else 2 * numbers.standard_normal(size)
        found[name] = drawn.astype(np.float32)
    return found


def at(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """A shape whose axes have sizes."""
    return tuple(axis.times * sizes[axis.name] + axis.more if isinstance(axis, Axis) else axis for axis in shape)


def described(shape: Shape, sizes: Mapping[str, int] | None) -> list[int | str]:
    """A shape as a manifest says it: free axes by name."""
    if sizes is not None:
        return list(at(shape, sizes))
    return [axis if isinstance(axis, int) else _named(axis) for axis in shape]


def _named(axis: Axis) -> str:
    return (f"{axis.times}*" if axis.times > 1 else "") + axis.name + (f"+{axis.more}" if axis.more else "")


def _reason(error: Exception) -> str:
    """One line of a library's error, of what caused it where that is known."""
    cause = error.__cause__ or error
    return next(iter(str(cause).splitlines()), type(cause).__name__)


def _timed(call: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    result, best = call(), float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return result, best


@contextmanager
def _quiet() -> Iterator[None]:
    """What exporters say of packages that nobody needs here, and of axes that share a size."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
