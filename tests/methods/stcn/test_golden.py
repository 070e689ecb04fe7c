"""STCN against numbers of the published implementation."""

from __future__ import annotations

import pytest
import torch

from tests.golden.support import Golden
from voslab.core import Frame
from voslab.methods.stcn.network import STCN
from voslab.methods.stcn.state import Query
from voslab.methods.stcn.weights import convert
from voslab.nn.aggregation import aggregate_product
from voslab.nn.blocks import flatten_hw
from voslab.nn.memory import DenseMemory


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("stcn")


@pytest.fixture(scope="module")
def network(golden: Golden) -> STCN:
    return golden.load(STCN(), convert)


@pytest.fixture(scope="module")
def first(golden: Golden, network: STCN) -> tuple[DenseMemory, Query]:
    frames, masks = golden.given()
    with torch.no_grad():
        return network.memorise(network.begin(Frame(0, frames[:1]), masks)), network.encode(frames[1:2])


@torch.no_grad()
def test_encoders(golden: Golden, first: tuple[DenseMemory, Query]) -> None:
    memory, query = first
    golden.check("frame1_k16", query.key)
    golden.check("frame1_f16_thin", query.thin)
    for name, feature in zip(("f4", "f8", "f16"), query.features, strict=True):
        golden.check(f"frame1_{name}", feature)
    _, masks = golden.given()
    golden.check(
        "frame0_probs_sub", aggregate_product(masks.probs.logit(), masks.slot_mask).softmax(1)[0], absolute=True
    )
    [bank] = memory.banks
    assert bank.values is not None
    golden.check("frame0_value", bank.values[0].transpose(1, 2).unflatten(2, (6, 10)))


@torch.no_grad()
def test_affinity(golden: Golden, network: STCN, first: tuple[DenseMemory, Query]) -> None:
    memory, query = first
    [bank] = memory.banks
    assert bank.keys is not None
    assert bank.keys.shape[1] == 1, "one affinity for all objects"
    # Values that pick out one position each read the affinity itself.
    picking = DenseMemory([type(bank)(1)]).write(bank.keys, torch.eye(60).view(1, 1, 60, 60), retain=True)
    golden.check("affinity_full", picking.read(flatten_hw(query.key), None, "l2")[0, 0].T)
    keys, queries = bank.keys[0, 0], flatten_hw(query.key)[0]
    golden.check("similarity", (2 * keys @ queries.T - keys.square().sum(1, keepdim=True)) / 8)
    golden.check("readout_top20", network.read(query, memory)[0])
    golden.check("readout_full", network.train().read(query, memory)[0])
    network.eval()
    golden.check("frame1_logits", network.decode(query, network.read(query, memory))[0].unsqueeze(1))


@pytest.mark.parametrize(("policy", "every", "previous"), [("every1", 1, False), ("every2_last", 2, True)])
@pytest.mark.parametrize("chunk", [1, 4])
@torch.no_grad()
def test_video(golden: Golden, network: STCN, policy: str, every: int, previous: bool, chunk: int) -> None:
    network.memory_every, network.memory_previous, network.object_chunk = every, previous, chunk
    frames, masks = golden.given()
    state = network.begin(Frame(0, frames[:1]), masks)
    outputs = []
    for index in range(1, len(frames)):
        logits, state = network.step(Frame(index, frames[index : index + 1]), state)
        outputs.append(logits[0])
    golden.check(f"probs_{policy}", torch.stack(outputs).softmax(1), absolute=True)
    if policy == "every1":
        golden.check_labels("labels_every1", torch.stack(outputs).argmax(1).numpy())
