"""Describes the tensor functions of a network that run outside Python.

The batch size is 1. `docs/onnx.md` explains how a host program passes outputs of one graph to the inputs of another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn


class Axis(NamedTuple):
    """A dimension whose size is known at run time only: `scale * size + offset`.

    Attributes:
        name: `rows` or `columns` of the feature grid at the network's stride, `cells` (rows times columns), `objects`,
            or `memory` (positions in the memory).
        scale: factor of the named size.
        offset: constant that is added to it.
    """

    name: str
    scale: int = 1
    offset: int = 0


Shape = tuple[int | Axis, ...]

ROWS, COLUMNS, CELLS, OBJECTS, MEMORY = map(Axis, ("rows", "columns", "cells", "objects", "memory"))


@dataclass(frozen=True, slots=True)
class ExportGraph:
    """One function of a network, exported as one ONNX file.

    Attributes:
        name: stem of the file.
        function: takes the inputs in order and returns a tensor or a tuple of tensors.
        inputs: shape of every input by name, float32. `image`, `masks` and `past` (earlier masks) are in [0, 1].
        outputs: shape of every output by name, float32.
    """

    name: str
    function: Callable[..., Any]
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]


class GraphModule(nn.Module):
    """Wraps a graph's function in a module that owns the network's parameters, as exporters expect."""

    def __init__(self, network: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.network = network
        self.function = function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in order for the inputs in order."""
        outputs = self.function(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)
