"""Exported graphs of STM."""

from __future__ import annotations

from voslab.core.export_graph import ExportGraph
from voslab.methods.stm.network import STM, Query
from voslab.nn.matching_graphs import query_and_memory


def graphs(network: STM) -> tuple[ExportGraph, ...]:
    """Return the graphs in the order in which they run."""
    return query_and_memory(network, Query)
