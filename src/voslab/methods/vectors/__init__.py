"""Baseline without a network: masks follow the codec's motion vectors from the first frame on."""

from voslab.core.method import Method

METHOD = Method(network_path="voslab.methods.vectors.network:Vectors")
