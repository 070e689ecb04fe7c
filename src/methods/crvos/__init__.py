"""CRVOS: Clue Refining Network for Video Object Segmentation (Cho et al. 2020)."""

from src.core.method import Method

METHOD = Method(
    network_path="src.methods.crvos.network:CRVOS",
    module_path="src.methods.crvos.module:CRVOSModule",
    convert_path="src.methods.crvos.weights:convert",
    graphs_path="src.methods.crvos.graphs:graphs",
)
