"""STM outside of Python."""

from __future__ import annotations

from src.core.graphs import Graphs
from src.methods.stm.network import STM, Query
from src.nn.graphs import query_and_memory


def graphs(network: STM) -> Graphs:
    """See `Graphs`."""
    return query_and_memory(network, Query)
