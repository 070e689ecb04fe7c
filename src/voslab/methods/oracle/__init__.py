"""Oracle: returns the true masks. As the base of a wrapper it shows what the wrapper itself loses."""

from voslab.core.method import Method

METHOD = Method(network_path="voslab.methods.oracle.network:Oracle")
