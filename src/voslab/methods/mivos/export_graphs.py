"""MiVOS outside of Python."""

from __future__ import annotations

from voslab.core.export_graph import Graphs
from voslab.methods.mivos.network import MiVOS, Query
from voslab.nn.matching_graphs import query_and_memory


def graphs(network: MiVOS) -> Graphs:
    """See `Graphs`."""
    return query_and_memory(network, Query, network.kernel, anew=True)
