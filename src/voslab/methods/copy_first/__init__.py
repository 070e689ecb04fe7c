"""Keeps the first mask: the floor of every table."""

from voslab.core.method import Method

METHOD = Method(network_path="voslab.methods.copy_first.network:CopyFirst")
