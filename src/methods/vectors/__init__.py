"""Masks follow the codec's motion vectors from the first frame on: the other floor of every table."""

from src.core.method import Method

METHOD = Method(network_path="src.methods.vectors.network:Vectors")
