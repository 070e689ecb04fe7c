"""The wrapper's LightningModule: it trains the base, and validates it with keys that the first frame has tuned."""

from __future__ import annotations

from voslab.training.module import VOSModule


class AdaptedModule(VOSModule):
    """Cross-entropy on the aggregated output of the base as it is: nothing is adapted in training mode."""
