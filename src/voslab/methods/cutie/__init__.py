"""Cutie: Putting the Object Back into Video Object Segmentation (Cheng et al. 2024)."""

from voslab.core.method import Method

METHOD = Method(
    network_path="voslab.methods.cutie.network:Cutie",
    module_path="voslab.methods.cutie.module:CutieModule",
    convert_path="voslab.methods.cutie.weights:convert",
    graphs_path="voslab.methods.cutie.export_graphs:graphs",
)
