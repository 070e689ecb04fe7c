"""MiVOS outside of Python."""

from __future__ import annotations

from src.core.graphs import Graphs
from src.methods.mivos.network import MiVOS, Query
from src.nn.graphs import query_and_memory


def graphs(network: MiVOS) -> Graphs:
    """See `Graphs`."""
    return query_and_memory(network, Query, network.kernel, anew=True)
