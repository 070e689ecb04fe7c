"""GAM's LightningModule: cross-entropy on the aggregated output, as STM's (the paper states no loss)."""

from __future__ import annotations

from torch import Tensor

from src.nn.losses import nll
from src.training.module import VOSModule


class GAMModule(VOSModule):
    """Unrolls ten frames in chronological order (section 4.2.2)."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `nll`."""
        return nll(logits, labels)
