"""Keeps the first mask: the floor of every table."""

from src.core.method import Method

METHOD = Method(network_path="src.methods.copy_first.network:CopyFirst")
