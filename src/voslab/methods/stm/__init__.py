"""STM: Video Object Segmentation using Space-Time Memory Networks (Oh et al. 2019)."""

from voslab.core.method import Method

METHOD = Method(
    network_path="voslab.methods.stm.network:STM",
    module_path="voslab.methods.stm.module:STMModule",
    convert_path="voslab.methods.stm.weights:convert",
    graphs_path="voslab.methods.stm.export_graphs:graphs",
)
