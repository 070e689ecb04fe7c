"""A tiny XMem learns in a minute: the loss falls, and masks of videos that it has not seen get better."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.methods.generated import score, train
from voslab.core.checkpoint import CheckpointMetadata
from voslab.engine import Settings
from voslab.methods.xmem.module import XMemModule
from voslab.methods.xmem.network import XMem
from voslab.training.recipe import Recipe


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_of_training_lowers_the_loss_and_raises_the_score() -> None:
    torch.manual_seed(0)
    channels = {"key_channels": 16, "value_channels": 32, "sensory_channels": 8, "decoder_width": 16}
    network = XMem(backbone="resnet18", norm="group", width=16, memory_every=2, **channels)  # type: ignore[arg-type]
    recipe = Recipe(torch.optim.AdamW)
    module = XMemModule(network, recipe, Settings(), CheckpointMetadata("xmem", {}), pretrained=False)
    before = score(network)
    losses = train(module, 60, 2e-3)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert score(network) > before + 0.05
