"""SwiftNet's LightningModule: cross-entropy on the aggregated output, as STM is trained."""

from __future__ import annotations

from torch import Tensor

from src.nn.losses import nll
from src.training.module import VOSModule


class SwiftNetModule(VOSModule):
    """Unrolls three frames; the second enters the memory with its predicted masks, gradients included."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `nll`."""
        return nll(logits, labels)
