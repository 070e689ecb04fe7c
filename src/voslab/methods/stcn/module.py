"""STCN's LightningModule: bootstrapped cross-entropy on the aggregated output (section 5)."""

from __future__ import annotations

from voslab.training.module import BootstrappedModule


class STCNModule(BootstrappedModule):
    """Unrolls three frames; the longer it has trained, the fewer and harder pixels count."""
