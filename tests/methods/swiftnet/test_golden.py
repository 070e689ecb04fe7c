"""SwiftNet against numbers of the published implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.golden.support import Golden
from voslab.core import Frame
from voslab.methods.swiftnet.network import SwiftNet
from voslab.methods.swiftnet.weights import convert
from voslab.nn.aggregation import aggregate_product, object_probabilities
from voslab.nn.pixel_memory import PixelBank, least_similar, max_cosine


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("swiftnet")


@pytest.fixture(scope="module")
def network(golden: Golden) -> SwiftNet:
    return golden.load(SwiftNet(memory_every=golden.meta["update_every"], memory_share=golden.meta["beta"]), convert)


def contents(bank: PixelBank, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
    assert bank.keys is not None
    assert bank.values is not None
    return bank.keys[:, :, first:last], bank.values[:, :, first:last]


@torch.no_grad()
def test_layers(golden: Golden, network: SwiftNet) -> None:
    frames, masks = golden.given()
    memory = network.memorise(network.begin(Frame(0, frames[:1]), masks))
    key, value = contents(memory.banks[0], 0, 60)
    golden.check("frame0_key", key[0].transpose(1, 2))
    golden.check("frame0_value", value[0].transpose(1, 2))

    query = network.encode(frames[1:2])
    golden.check("frame1_c1", query.encoded.c1)
    for name, feature in zip(("r2", "r3", "r4"), query.encoded.pyramid, strict=True):
        golden.check(f"frame1_{name}", feature)
    golden.check("frame1_query_key", query.key)
    golden.check("frame1_query_value", query.value)
    readout = network.read(query, memory)
    golden.check("frame1_memory_out", torch.cat([readout[0], query.value.expand_as(readout[0])], 1))
    golden.check("frame1_aspp", network.aspp(readout[0], network.aspp.forward_shared(query.value)))
    log_odds = network.decode(query, readout)
    stored = golden["frame1_logits"]
    assert np.abs(log_odds[0, :, ::2, ::2].numpy() - (stored[:, 1] - stored[:, 0])).max() < 1e-4 * np.abs(stored).max()
    logits = aggregate_product(log_odds, masks.slot_mask)
    golden.check("frame1_probs", logits.softmax(1)[0], absolute=True)

    state = network.begin(Frame(0, frames[:1]), masks.with_probs(object_probabilities(logits)))
    state.encoded = query.encoded
    new_key, new_value = contents(network.memorise(state).banks[0], 0, 60)
    golden.check("frame1_memkey", new_key[0].transpose(1, 2))
    golden.check("frame1_memvalue", new_value[0].transpose(1, 2))
    similarity = max_cosine(new_key, key)
    golden.check("pam_max_cosine", similarity[0])
    assert np.array_equal(least_similar(similarity, 0.1)[0].numpy(), golden["pam_selected"])


@pytest.mark.parametrize("chunk", [1, 4])
@torch.no_grad()
def test_video(golden: Golden, network: SwiftNet, chunk: int) -> None:
    network.object_chunk = chunk
    frames, masks = golden.given()
    state = network.begin(Frame(0, frames[:1]), masks)
    outputs, columns = [], []
    for index in range(1, len(frames)):
        logits, state = network.step(Frame(index, frames[index : index + 1]), state)
        outputs.append(logits[0])
        columns += state.memory.num_readable
    golden.check("probs", torch.stack(outputs).softmax(1), absolute=True)
    golden.check_labels("labels", torch.stack(outputs).argmax(1).numpy())
    assert columns == golden["memory_columns"].tolist()


@torch.no_grad()
def test_the_memory_keeps_the_golden_positions(golden: Golden, network: SwiftNet) -> None:
    frames, masks = golden.given()
    state = network.begin(Frame(0, frames[:1]), masks)
    for index in range(1, len(frames)):
        _, state = network.step(Frame(index, frames[index : index + 1]), state)
    key, value = contents(state.memory.banks[0], 60, 66)
    where = torch.from_numpy(golden["pam_selected"]).long()
    for kept, stored in ((key[0], golden["frame1_memkey"]), (value[0, :, :, ::4], golden["frame1_memvalue"])):
        chosen = torch.from_numpy(stored).transpose(1, 2).gather(1, where.unsqueeze(-1).expand(-1, -1, stored.shape[1]))
        assert (kept - chosen).abs().max() < 1e-4 * np.abs(stored).max()
