"""The decoder and the residual-based correction against numbers of the published implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.golden import fill
from tests.golden.support import Golden, published
from voslab.methods.covos.correction import correct, dilate
from voslab.methods.covos.decoder import Decoder
from voslab.methods.covos.propagation import aggregate_probs, foreground
from voslab.methods.covos.weights import convert
from voslab.nn.aggregation import aggregate_product

VALID = torch.ones(1, 2, dtype=torch.bool)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("covos")


@pytest.fixture(scope="module")
def decoder(golden: Golden) -> Decoder:
    made = Decoder()
    weights = published("covos")
    assert fill.digest(weights) == golden.meta["weights_digest"]
    ours = convert(weights)
    assert ours is not None
    made.load_state_dict({key.removeprefix("decoder."): tensor for key, tensor in ours.items()})
    return made.eval()


def blocks(golden: Golden, name: str) -> Tensor:
    """Features are stored as one number per 4x4 cells."""
    return torch.from_numpy(golden[name]).float().repeat_interleave(4, 2).repeat_interleave(4, 3)


def probs(golden: Golden, name: str) -> Tensor:
    return torch.from_numpy(golden[name])


def padded(probabilities: Tensor) -> Tensor:
    return F.pad(probabilities, (0, 0, 0, 0, 0, 11 - probabilities.shape[1]))


def test_the_decoder_has_the_published_size(decoder: Decoder) -> None:
    assert sum(p.numel() for p in decoder.parameters()) == 661_835


def test_aggregation(golden: Golden) -> None:
    golden.check("k2_P_hat", padded(aggregate_probs(probs(golden, "k2_fg_hat"), VALID)), absolute=True)


@torch.no_grad()
def test_confidence(golden: Golden, decoder: Decoder) -> None:
    weight = decoder.weigh(blocks(golden, "k2_V"), blocks(golden, "k2_V_hat"))
    assert weight is not None
    golden.check("k2_gate", weight, absolute=True)


@pytest.mark.parametrize("clamp", [False, True])
def test_correction(golden: Golden, clamp: bool) -> None:
    features, hat = blocks(golden, "k2_V"), probs(golden, "k2_fg_hat")
    reference = (probs(golden, "k2_fg_ref").float(), features.roll((2, 3), (2, 3)))
    large = probs(golden, "k2_residual").bool()
    out, selected = correct(hat, VALID, large, features, *reference, clamp=clamp, reference="foreground", scale=None)
    assert torch.equal(selected, probs(golden, "k2_selected").bool())
    assert torch.equal(selected, large & dilate(foreground(hat, VALID), 8))
    golden.check("k2_P_bar", padded(aggregate_probs(out, VALID)), absolute=True)

    out, selected = correct(hat, VALID, torch.zeros_like(large), features, *reference, clamp=clamp)
    assert not selected.any()
    golden.check("k2_P_bar_no_selection", aggregate_probs(out, VALID), absolute=True)


@torch.no_grad()
def test_decoder(golden: Golden, decoder: Decoder) -> None:
    features, hat, bar = blocks(golden, "k2_V"), probs(golden, "k2_P_hat"), probs(golden, "k2_P_bar")
    weight = decoder.weigh(features, blocks(golden, "k2_V_hat"))
    assert weight is not None
    golden.check("k2_out", decoder(hat, weight * hat, features, bar))
    odds = decoder.log_odds(hat[:, :3], weight, features, bar[:, :3])
    golden.check("k2_final_probs", aggregate_product(odds, VALID).softmax(1), absolute=True)


@pytest.mark.parametrize("switch", [{"reference": "all"}, {"scale": 1.0}])
def test_the_published_code_matches_scaled_features_of_the_foreground(golden: Golden, switch: dict[str, Any]) -> None:
    """The tolerance tells the published patch from those of the equation."""
    features, hat = blocks(golden, "k2_V"), probs(golden, "k2_fg_hat")
    reference = (probs(golden, "k2_fg_ref").float(), features.roll((2, 3), (2, 3)))
    large = probs(golden, "k2_residual").bool()
    out, _ = correct(hat, VALID, large, features, *reference, **switch)
    stored = golden["k2_P_bar"][:, :3]
    assert np.abs(aggregate_probs(out, VALID).numpy() - stored).max() > 1e-2
