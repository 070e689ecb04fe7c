"""XMem: Long-Term Video Object Segmentation with an Atkinson-Shiffrin Memory Model (Cheng and Schwing 2022)."""

from voslab.core.method import Method

METHOD = Method(
    network_path="voslab.methods.xmem.network:XMem",
    module_path="voslab.methods.xmem.module:XMemModule",
    convert_path="voslab.methods.xmem.weights:convert",
    graphs_path="voslab.methods.xmem.export_graphs:graphs",
)
