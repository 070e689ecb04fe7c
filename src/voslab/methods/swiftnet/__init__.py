"""SwiftNet: Real-time Video Object Segmentation (Wang et al. 2021)."""

from voslab.core.method import Method

METHOD = Method(
    network_path="voslab.methods.swiftnet.network:SwiftNet",
    module_path="voslab.methods.swiftnet.module:SwiftNetModule",
    convert_path="voslab.methods.swiftnet.weights:convert",
    graphs_path="voslab.methods.swiftnet.export_graphs:graphs",
)
