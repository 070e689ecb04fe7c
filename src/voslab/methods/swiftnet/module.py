"""SwiftNet's LightningModule: cross-entropy on the aggregated output, as STM is trained."""

from __future__ import annotations

from voslab.training.module import VOSModule


class SwiftNetModule(VOSModule):
    """Unrolls three frames; the second enters the memory with its predicted masks, gradients included."""
