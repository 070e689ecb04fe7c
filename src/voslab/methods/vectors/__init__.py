"""Masks follow the codec's motion vectors from the first frame on: the other floor of every table."""

from voslab.core.method import Method

METHOD = Method(network_path="voslab.methods.vectors.network:Vectors")
