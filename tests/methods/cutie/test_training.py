"""A tiny Cutie learns in a minute: the loss falls, and masks of videos that it has not seen get better."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.methods.generated import score, train
from voslab.core.checkpoint import CheckpointMetadata
from voslab.engine import Settings
from voslab.methods.cutie.module import CutieModule
from voslab.methods.cutie.network import Cutie
from voslab.training.recipe import Recipe


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_of_training_lowers_the_loss_and_raises_the_score() -> None:
    torch.manual_seed(0)
    channels = {"key_channels": 16, "value_channels": 32, "sensory_channels": 8, "decoder_width": 16}
    attention = {"queries": 4, "heads": 4, "blocks": 1, "feedforward": 64, "train_points": 1024}
    network = Cutie(norm="group", width=16, memory_every=2, **channels, **attention)  # type: ignore[arg-type]
    recipe = Recipe(torch.optim.AdamW)
    module = CutieModule(network, recipe, Settings(), CheckpointMetadata("cutie", {}), pretrained=False)
    before = score(network)
    losses = train(module, 80, 2e-3)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert score(network) > before + 0.05
