"""STM outside of Python."""

from __future__ import annotations

from voslab.core.export_graph import Graphs
from voslab.methods.stm.network import STM, Query
from voslab.nn.matching_graphs import query_and_memory


def graphs(network: STM) -> Graphs:
    """See `Graphs`."""
    return query_and_memory(network, Query)
