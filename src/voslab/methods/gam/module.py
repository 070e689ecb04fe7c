"""GAM's LightningModule: cross-entropy on the aggregated output, as STM's (the paper states no loss)."""

from __future__ import annotations

from voslab.training.module import VOSModule


class GAMModule(VOSModule):
    """Unrolls ten frames in chronological order (section 4.2.2)."""
