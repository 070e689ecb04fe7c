"""GAM: Real-time High-Resolution Video Object Segmentation (Wang et al.), with CAM and MEM; GC without them."""

from voslab.core.method import Method

METHOD = Method(
    network_path="voslab.methods.gam.network:GAM",
    module_path="voslab.methods.gam.module:GAMModule",
    graphs_path="voslab.methods.gam.export_graphs:graphs",
)
