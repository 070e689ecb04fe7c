"""STM: Video Object Segmentation using Space-Time Memory Networks (Oh et al. 2019)."""

from src.core.method import Method

METHOD = Method(
    network_path="src.methods.stm.network:STM",
    module_path="src.methods.stm.module:STMModule",
    convert_path="src.methods.stm.weights:convert",
    graphs_path="src.methods.stm.graphs:graphs",
)
