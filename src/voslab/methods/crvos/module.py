"""CRVOS's LightningModule: negative log-likelihood on the aggregated output (section 2.5)."""

from __future__ import annotations

from voslab.training.module import VOSModule


class CRVOSModule(VOSModule):
    """Unrolls 8 (pre-training) or 16 (fine-tuning) frames, one random target per clip."""
