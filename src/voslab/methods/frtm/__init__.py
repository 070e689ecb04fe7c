"""FRTM: Learning Fast and Robust Target Models for Video Object Segmentation (Robinson et al. 2020)."""

from voslab.core.method import Method

METHOD = Method(
    network_path="voslab.methods.frtm.network:FRTM",
    module_path="voslab.methods.frtm.module:FRTMModule",
    convert_path="voslab.methods.frtm.weights:convert",
    encoder_path="voslab.methods.frtm.weights:convert_encoder",
)
