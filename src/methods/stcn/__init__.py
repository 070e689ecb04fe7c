"""STCN: Rethinking Space-Time Networks with Improved Memory Coverage (Cheng et al. 2021)."""

from src.core.method import Method

METHOD = Method(
    network_path="src.methods.stcn.network:STCN",
    module_path="src.methods.stcn.module:STCNModule",
    convert_path="src.methods.stcn.weights:convert",
    graphs_path="src.methods.stcn.graphs:graphs",
)
