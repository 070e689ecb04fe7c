"""What of a network can run outside of Python: functions of plain tensors, and how a video is made of them.

Batch size is 1. Axes that are not known before run time have names; a graph's inputs that have the names of another
one's outputs are those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn


class Axis(NamedTuple):
    """A size that is known at run time: `times` as large as its name says, and `more`.

    Names in use: `rows` and `columns` of the feature grid at the network's stride, their product `cells`, `objects`,
    and `memory`, positions.
    """

    name: str
    times: int = 1
    more: int = 0


Shape = tuple[int | Axis, ...]

ROWS, COLUMNS, CELLS, OBJECTS, MEMORY = map(Axis, ("rows", "columns", "cells", "objects", "memory"))


@dataclass(frozen=True, slots=True)
class Graph:
    """One function of a network.

    Attributes:
        name: of its file.
        function: of its inputs in order, gives a tensor or a tuple of them.
        inputs: names and shapes, float32. `image`, `masks` and `past` (masks) are in [0, 1].
        outputs: the same of what it gives.
        about: what it does, for people.
    """

    name: str
    function: Callable[..., Any]
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    about: str


@dataclass(frozen=True, slots=True)
class Graphs:
    """All of a network's graphs.

    Attributes:
        graphs: in the order in which they run.
        chain: how a video is segmented with them, a sentence or two each.
        aggregation: how the scores of objects become one distribution; a graph does it.

    """

    graphs: tuple[Graph, ...]
    chain: tuple[str, ...]
    aggregation: str


class Function(nn.Module):
    """A graph as a module that owns the network's parameters, as exporters want it."""

    def __init__(self, network: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.network = network
        self.function = function

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Inputs in order -> outputs in order."""
        outputs = self.function(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)
