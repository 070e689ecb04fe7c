"""MiVOS: Modular Interactive Video Object Segmentation (Cheng et al. 2021), its propagation network."""

from voslab.core.method import Method

METHOD = Method(
    network_path="voslab.methods.mivos.network:MiVOS",
    module_path="voslab.methods.mivos.module:MiVOSModule",
    convert_path="voslab.methods.mivos.weights:convert",
    graphs_path="voslab.methods.mivos.export_graphs:graphs",
)
