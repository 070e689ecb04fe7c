"""The LightningModule of MiVOS's propagation: bootstrapped cross-entropy on the aggregated output."""

from __future__ import annotations

from voslab.training.module import BootstrappedModule


class MiVOSModule(BootstrappedModule):
    """Unrolls three frames; the longer it has trained, the fewer and harder pixels count."""
