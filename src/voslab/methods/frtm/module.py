"""FRTM's LightningModule: trains the refiner, with target models that are fitted to the first frame of each clip."""

from __future__ import annotations

from voslab.training.module import VOSModule


class FRTMModule(VOSModule):
    """Unrolls one to two frames. With one object per clip, the loss is the refiner's binary cross-entropy."""
