"""Context Adaptation for Video Object Segmentation (Dubuisson et al.): the first frame tunes a base's keys."""

from src.core.method import Method

METHOD = Method(
    network_path="src.methods.adaptation.network:Adapted",
    module_path="src.methods.adaptation.module:AdaptedModule",
)
