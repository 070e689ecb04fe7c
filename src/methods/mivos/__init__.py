"""MiVOS: Modular Interactive Video Object Segmentation (Cheng et al. 2021), its propagation network."""

from src.core.method import Method

METHOD = Method(
    network_path="src.methods.mivos.network:MiVOS",
    module_path="src.methods.mivos.module:MiVOSModule",
    convert_path="src.methods.mivos.weights:convert",
    graphs_path="src.methods.mivos.graphs:graphs",
)
