"""Context Adaptation for Video Object Segmentation (Dubuisson et al.): the first frame tunes a base's keys."""

from voslab.core.method import Method

METHOD = Method(
    network_path="voslab.methods.adaptation.network:Adapted",
    module_path="voslab.methods.adaptation.module:AdaptedModule",
)
