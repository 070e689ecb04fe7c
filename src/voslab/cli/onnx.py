"""Writes graphs as ONNX files and compares their results in onnxruntime with PyTorch's.

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
from voslab.core.export_graph import Axis, ExportGraph, GraphModule, Shape

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
"""Largest difference from PyTorch that passes as rounding, relative to the output's largest value."""
MAX_SIZE = 2**24
"""Upper bound of a dynamic axis."""
TRACE_SIZES = {"rows": 4, "columns": 6, "objects": 2, "memory": 48, "cells": 24}
"""Sizes for tracing a graph with dynamic axes: all different and none 1, so that the exporter merges no axes."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Parity:
    """Compares a graph in onnxruntime with the same function in PyTorch.

    Attributes:
        absolute: largest absolute difference by output.
        relative: the same, divided by the output's largest absolute value.
        onnx_seconds: fastest call in onnxruntime.
        torch_seconds: fastest call in PyTorch.
    """

    absolute: Mapping[str, float]
    relative: Mapping[str, float]
    onnx_seconds: float
    torch_seconds: float


def check_packages() -> None:
    """Raise `ConfigError` if a package of the extra `export` is missing."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ConfigError(f"export needs {', '.join(missing)}: pip install .[export]")


def write_graph(network: nn.Module, graph: ExportGraph, path: Path, sizes: Mapping[str, int] | None) -> int:
    """Write a graph, including its parameters, as an ONNX file.

    Args:
        network: network that owns the parameters, in evaluation mode.
        graph: graph to write.
        path: file to write.
        sizes: fixed size of every axis by name; None for dynamic axes.

    Returns:
        The version of the operator set.

    Raises:
        ExportError: if the exporter fails, or cannot keep the axes dynamic.
    """
    inputs = tuple(torch.from_numpy(array) for array in random_inputs(graph, sizes or TRACE_SIZES).values())
    dimensions = {name: torch.export.Dim(name, min=1, max=MAX_SIZE) for name in TRACE_SIZES}
    dynamic = [
        {
            dim: axis.scale * dimensions[axis.name] if axis.scale > 1 else dimensions[axis.name]
            for dim, axis in enumerate(shape)
            if isinstance(axis, Axis)
        }
        for shape in graph.inputs.values()
    ]
    with _quiet(), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                GraphModule(network, graph.function).eval(),
                inputs,
                dynamo=True,
                verbose=False,
                dynamic_shapes=(tuple(dynamic),) if sizes is None else None,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
            )
            program.save(path, external_data=False)
        except (torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
            raise ExportError(f"graph '{graph.name}' cannot be written ({first_line(error)})") from error
    model = program.model
    for value, dims in zip(model.graph.inputs, dynamic, strict=True):
        if sizes is None and any(isinstance(value.shape[dim], int) for dim in dims):
            raise ExportError(f"graph '{graph.name}': '{value.name}' has fixed sizes; set dynamic_axes=false")
    return int(model.opset_imports[""])


def compare(
    network: nn.Module, graph: ExportGraph, path: Path, sizes: Mapping[str, int], repeats: int, threads: int
) -> Parity:
    """Run an ONNX file and the network's own function on the same random input.

    Args:
        network: network that owns the parameters, in evaluation mode on the CPU.
        graph: graph that the file holds.
        path: file written by `write_graph`.
        sizes: size of every axis by name.
        repeats: number of timed calls of each, after one warm-up call.
        threads: number of CPU threads for both.

    Returns:
        The differences of the outputs and the times of both.

    Raises:
        ExportError: if onnxruntime cannot run the file, or an output differs by more than `TOLERANCE`.
    """
    inputs = random_inputs(graph, sizes)
    tensors = [torch.from_numpy(array) for array in inputs.values()]
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        session = open_graph(path, threads)
        found, onnx_seconds = _timed(lambda: session.run(list(graph.outputs), inputs), repeats)
        with torch.no_grad():
            module = GraphModule(network, graph.function).eval()
            expected, torch_seconds = _timed(lambda: module(*tensors), repeats)
    # The exceptions of onnxruntime have no common base class.
    except Exception as error:
        raise ExportError(f"graph '{graph.name}' does not run in onnxruntime ({first_line(error)})") from error
    finally:
        torch.set_num_threads(threads_before)
    absolute, relative = {}, {}
    for (name, shape), array, tensor in zip(graph.outputs.items(), found, expected, strict=True):
        assert tensor.shape == sized(shape, sizes), f"'{name}' of graph '{graph.name}' is {tuple(tensor.shape)}"
        absolute[name], relative[name] = difference(array, tensor)
        if not relative[name] <= TOLERANCE:
            raise ExportError(
                f"graph '{graph.name}': '{name}' of onnxruntime differs from PyTorch's by {absolute[name]:.2g}, "
                f"{relative[name]:.2g} of its largest value (at most {TOLERANCE:g})"
            )
    return Parity(absolute, relative, onnx_seconds, torch_seconds)


def open_graph(path: Path, threads: int) -> Any:
    """Return an `onnxruntime.InferenceSession` of a file, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def difference(found: Array, expected: Tensor) -> tuple[float, float]:
    """Return the largest absolute difference, also relative to the largest expected value; infinite if shapes differ.

    Example:
        >>> difference(np.array([1, -3], np.float32), torch.tensor([1.0, -4.0]))
        (1.0, 0.25)
    """
    reference = expected.numpy()
    if found.shape != reference.shape:
        return float("inf"), float("inf")
    largest = float(np.abs(found - reference).max(initial=0))
    return largest, largest / max(float(np.abs(reference).max(initial=0)), 1e-30)


def random_inputs(graph: ExportGraph, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Return random inputs by name: images and masks in [0, 1], features wide enough for clear matches."""
    arrays = {}
    for name, shape in graph.inputs.items():
        numbers, size = generator("export", graph.name, name), sized(shape, sizes)
        array = numbers.random(size) if name in ("image", "masks", "past") else 2 * numbers.standard_normal(size)
        arrays[name] = array.astype(np.float32)
    return arrays


def sized(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return a shape with numbers for all axes.

    Example:
        >>> sized((1, Axis("objects", 1, 1), Axis("rows", 16)), {"objects": 2, "rows": 4})
        (1, 3, 64)
    """
    return tuple(axis.scale * sizes[axis.name] + axis.offset if isinstance(axis, Axis) else axis for axis in shape)


def described(shape: Shape, sizes: Mapping[str, int] | None) -> list[int | str]:
    """Return a shape for the manifest, with formulas for dynamic axes.

    Example:
        >>> described((1, Axis("objects", 1, 1), Axis("rows", 16)), None)
        [1, 'objects+1', '16*rows']
    """
    if sizes is not None:
        return list(sized(shape, sizes))
    return [axis if isinstance(axis, int) else _formula(axis) for axis in shape]


def _formula(axis: Axis) -> str:
    return (f"{axis.scale}*" if axis.scale > 1 else "") + axis.name + (f"+{axis.offset}" if axis.offset else "")


def first_line(error: Exception) -> str:
    """Return the first line of a library's error, or of its cause."""
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
    """Silence the exporters' warnings about optional packages and about axes of equal size."""
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
