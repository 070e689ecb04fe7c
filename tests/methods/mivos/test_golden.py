"""The propagation network of MiVOS against numbers of the published implementation."""

from __future__ import annotations

import pytest
import torch

from tests.golden.support import Golden
from voslab.core import Frame
from voslab.methods.mivos.network import MiVOS
from voslab.methods.mivos.weights import convert
from voslab.nn.blocks import flatten_hw


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("mivos")


@pytest.fixture(scope="module")
def network(golden: Golden) -> MiVOS:
    return golden.load(MiVOS(), convert)


@torch.no_grad()
def test_layers(golden: Golden, network: MiVOS) -> None:
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
    for name, feature in zip(("f4", "f8", "f16"), query.features, strict=True):
        golden.check(f"frame1_{name}", feature)
    golden.check("similarity", bank.keys[0] @ flatten_hw(query.key)[0].T / 128**0.5)
    golden.check("readout_full", network.train().read(query, memory)[0])
    readout = network.eval().read(query, memory)
    golden.check("readout_top50", readout[0])
    golden.check("frame1_logits", network.decode(query, readout)[0].unsqueeze(1))


@pytest.mark.parametrize(("policy", "every"), [("freq1", 1), ("freq5", 5)])
@pytest.mark.parametrize("chunk", [1, 4])
@torch.no_grad()
def test_video(golden: Golden, network: MiVOS, policy: str, every: int, chunk: int) -> None:
    network.memory_every, network.object_chunk = every, chunk
    frames, masks = golden.given()
    state = network.begin(Frame(0, frames[:1]), masks)
    outputs = []
    for index in range(1, len(frames)):
        logits, state = network.step(Frame(index, frames[index : index + 1]), state)
        outputs.append(logits[0])
    golden.check(f"probs_{policy}", torch.stack(outputs).softmax(1), absolute=True)
    if policy == "freq1":
        golden.check_labels("labels_freq1", torch.stack(outputs).argmax(1).numpy())
