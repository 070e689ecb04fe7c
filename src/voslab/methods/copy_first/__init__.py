"""Copy First: predicts the given masks for every frame, the baseline of every table."""

from voslab.core.method import Method

METHOD = Method(network_path="voslab.methods.copy_first.network:CopyFirst")
