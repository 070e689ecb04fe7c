"""STCN's LightningModule: bootstrapped cross-entropy on the aggregated output (section 5)."""

from __future__ import annotations

from torch import Tensor

from src.nn.losses import bootstrap_share, bootstrapped_nll
from src.training.module import VOSModule


class STCNModule(VOSModule):
    """Unrolls three frames; the longer it has trained, the fewer and harder pixels count."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See `bootstrapped_nll` and `bootstrap_share`."""
        return bootstrapped_nll(logits, labels, bootstrap_share(self.global_step))
