"""STCN: Rethinking Space-Time Networks with Improved Memory Coverage (Cheng et al. 2021)."""

from voslab.core.method import Method

METHOD = Method(
    network_path="voslab.methods.stcn.network:STCN",
    module_path="voslab.methods.stcn.module:STCNModule",
    convert_path="voslab.methods.stcn.weights:convert",
    graphs_path="voslab.methods.stcn.export_graphs:graphs",
)
