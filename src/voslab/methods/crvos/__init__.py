"""CRVOS: Clue Refining Network for Video Object Segmentation (Cho et al. 2020)."""

from voslab.core.method import Method

METHOD = Method(
    network_path="voslab.methods.crvos.network:CRVOS",
    module_path="voslab.methods.crvos.module:CRVOSModule",
    convert_path="voslab.methods.crvos.weights:convert",
    graphs_path="voslab.methods.crvos.export_graphs:graphs",
)
