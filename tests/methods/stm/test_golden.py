"""STM against numbers of the published implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.golden.support import Golden
from voslab.core import Frame
from voslab.methods.stm.network import STM
from voslab.methods.stm.weights import convert
from voslab.nn.aggregation import aggregate_product
from voslab.nn.blocks import flatten_hw


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("stm")


@pytest.fixture(scope="module")
def network(golden: Golden) -> STM:
    return golden.load(STM(), convert)


@torch.no_grad()
def test_layers(golden: Golden, network: STM) -> None:
    frames, masks = golden.given()
    memory = network.memorise(network.begin(Frame(0, frames[:1]), masks))
    [bank] = memory.banks
    assert bank.keys is not None
    assert bank.values is not None
    golden.check("frame0_key", bank.keys[0].transpose(1, 2).unflatten(2, (6, 10)))
    golden.check("frame0_value", bank.values[0].transpose(1, 2).unflatten(2, (6, 10)))

    query = network.encode(frames[1:2])
    golden.check("frame1_query_key", query.key)
    golden.check("frame1_query_value", query.value)
    for name, feature in zip(("r2", "r3", "r4"), query.features, strict=True):
        golden.check(f"frame1_{name}", feature)
    affinity = bank.keys[0] @ flatten_hw(query.key)[0].T / 128**0.5
    golden.check("frame1_affinity", affinity.softmax(1))
    readout = network.read(query, memory)
    golden.check("frame1_readout", readout[0])

    log_odds = network.decode(query, readout)
    stored = golden["frame1_logits"]
    assert np.abs(log_odds[0, :, ::2, ::2].numpy() - (stored[:, 1] - stored[:, 0])).max() < 1e-4 * np.abs(stored).max()
    golden.check("frame1_aggregated_logit", aggregate_product(log_odds, masks.slot_mask)[0])


@pytest.mark.parametrize(("policy", "every"), [("all", 1), ("every2", 2)])
@pytest.mark.parametrize("chunk", [1, 4])
@torch.no_grad()
def test_video(golden: Golden, network: STM, policy: str, every: int, chunk: int) -> None:
    network.memory_every, network.object_chunk = every, chunk
    frames, masks = golden.given()
    state = network.begin(Frame(0, frames[:1]), masks)
    outputs = []
    for index in range(1, len(frames)):
        logits, state = network.step(Frame(index, frames[index : index + 1]), state)
        outputs.append(logits[0])
    golden.check(f"probs_{policy}", torch.stack(outputs).softmax(1), absolute=True)
    if policy == "all":
        golden.check_labels("labels_all", torch.stack(outputs).argmax(1).numpy())
