"""STM's LightningModule: cross-entropy on the aggregated output (section 3.4)."""

from __future__ import annotations

from voslab.training.module import VOSModule


class STMModule(VOSModule):
    """Unrolls three frames; the second enters the memory with its predicted masks, gradients included."""
