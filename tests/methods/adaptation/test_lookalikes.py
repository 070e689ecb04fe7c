"""Adaptation of trained networks, on images of an object and its lookalike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.methods.adaptation.world import adapted, base, frame, masks
from voslab.core import Frame, Keys, Masks
from voslab.data.sources.synthetic.lookalikes import make_lookalikes
from voslab.data.sources.synthetic.scene import draw
from voslab.methods.adaptation.heat_maps import heat_maps
from voslab.methods.adaptation.network import Adapted
from voslab.methods.builder import from_checkpoint

WEIGHTS = Path(__file__).resolve().parents[3] / "weights"
SIZE, LATER = (192, 336), (5, 10, 15)


def on(labels: np.ndarray, label: int) -> Tensor:
    """Cells inside an object."""
    return torch.nn.functional.avg_pool2d(torch.from_numpy(labels == label)[None].float(), 16)[0] > 0.9


def distraction(network: Any, seed: int, amount: float) -> tuple[Tensor, float, float]:
    """The loss by step; mean heat on the lookalike in later frames, before and after adaptation."""
    world = make_lookalikes((seed,), 16, SIZE, amount)
    images = {index: draw(world, index, SIZE) for index in (0, *LATER)}
    frames = {i: Frame(i, torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255) for i, (x, _) in images.items()}
    given = Masks(torch.from_numpy(images[0][1] == 1)[None, None].float(), torch.ones(1, 1, dtype=torch.bool))
    state = network.begin(frames[0], given)

    def heat_on_lookalike(keys: Keys | None) -> float:
        maps = {i: heat_maps(network.base, frames[0], given, frames[i], keys)[0, 0] for i in LATER}
        return float(np.mean([float(maps[i][on(images[i][1], 2)].mean()) for i in LATER]))

    return state.adaptations[0].loss[0], heat_on_lookalike(None), heat_on_lookalike(state.base.keys)


@pytest.mark.slow
@pytest.mark.parametrize("amount", [0.0, 0.1])
@pytest.mark.parametrize("weights", ["scratch_stcn", "scratch_swiftnet"])
def test_adaptation_reduces_affinity_to_lookalikes(weights: str, amount: float) -> None:
    path = WEIGHTS / f"{weights}.safetensors"
    if not path.is_file():
        pytest.skip(f"needs {path.name}")
    network = Adapted(from_checkpoint(path).segmenter).eval()
    losses, before, after = zip(*(distraction(network, seed, amount) for seed in range(3)), strict=True)
    assert all(loss[-1] < loss[0] for loss in losses)
    assert np.mean(after) < np.mean(before)


@torch.no_grad()
def test_losses_are_sums_over_heat_maps() -> None:
    network = adapted("stm", steps=2)
    state = network.begin(frame(0), masks(2))
    [record] = state.adaptations
    cells = torch.nn.functional.avg_pool2d(masks(2).probs, 16)
    for keys, point in ((None, 0), (state.base.keys, 2)):
        first = frame(0)
        maps = heat_maps(network.base, first, masks(2), first, keys)
        assert maps.shape == (1, 2, 4, 6)
        assert torch.allclose(((1 - cells) * maps).sum((2, 3)), record.objects[:, point], atol=1e-4)
        assert torch.allclose((cells * (1 - maps)).sum((2, 3)), record.backgrounds[:, point], atol=1e-4)
        assert torch.equal(heat_maps(network.base, frame(0), masks(2), frame(0), keys), maps)


def test_base_without_a_distribution_has_no_heat_maps() -> None:
    with pytest.raises(ValueError, match="no distribution"):
        heat_maps(base("gam", query_norm="scale"), frame(0), masks(1), frame(1))
