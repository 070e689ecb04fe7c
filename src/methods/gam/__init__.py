"""GAM: Real-time High-Resolution Video Object Segmentation (Wang et al.), with CAM and MEM; GC without them."""

from src.core.method import Method

METHOD = Method(
    network_path="src.methods.gam.network:GAM",
    module_path="src.methods.gam.module:GAMModule",
    graphs_path="src.methods.gam.graphs:graphs",
)
