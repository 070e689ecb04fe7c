"""SwiftNet: Real-time Video Object Segmentation (Wang et al. 2021)."""

from src.core.method import Method

METHOD = Method(
    network_path="src.methods.swiftnet.network:SwiftNet",
    module_path="src.methods.swiftnet.module:SwiftNetModule",
    convert_path="src.methods.swiftnet.weights:convert",
    graphs_path="src.methods.swiftnet.graphs:graphs",
)
