"""CRVOS's LightningModule: negative log-likelihood on the aggregated output (section 2.5)."""

from __future__ import annotations

from torch import Tensor

from src.nn.losses import nll
from src.training.module import VOSModule


class CRVOSModule(VOSModule):
    """Unrolls 8 (pre-training) or 16 (fine-tuning) frames, one random target per clip."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `nll`."""
        return nll(logits, labels)
