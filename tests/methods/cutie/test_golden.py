"""Cutie against numbers of the published implementation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.golden.support import Golden
from voslab.core import Frame, Masks
from voslab.methods.cutie.network import Cutie
from voslab.methods.cutie.state import CutieState
from voslab.methods.cutie.summariser import position_code
from voslab.methods.cutie.weights import convert
from voslab.nn.aggregation import aggregate_product, object_probabilities
from voslab.nn.anisotropic import expand_keys, expand_query
from voslab.nn.blocks import flatten_hw
from voslab.nn.decoders import upsample


class Parts:
    """Frames 0 and 1 through the modules."""

    def __init__(self) -> None:
        self.golden = Golden("cutie")
        self.network = self.golden.load(Cutie(), convert)
        self.images, masks = self.golden.given()
        self.queries = [self.network.encode(self.images[i : i + 1]) for i in range(2)]
        self.state = self.network.begin(Frame(0, self.images[:1]), masks)
        self.value0, _, _ = self.network.value(
            self.images[:1], self.queries[0].pixel, self.state.masks, self.state.sensory
        )
        self.state1: CutieState = self.network.memorise(self.state)
        self.readout, _ = self.network.read(self.queries[1], self.state1.memory)
        self.transformed, self.levels = self.network.transform(self.queries[1], self.readout, self.state1)
        self.log_odds, self.sensory1 = self.network.decode(self.queries[1], self.transformed, self.state1.sensory)
        self.logits = upsample(aggregate_product(self.log_odds, masks.slot_mask), 4)
        self.masks1 = Masks(object_probabilities(self.logits), masks.slot_mask)


@pytest.fixture(scope="module")
def parts() -> Parts:
    with torch.no_grad():
        return Parts()


def maps(values: Tensor) -> Tensor:
    return values[0].transpose(1, 2).unflatten(2, (6, 10))


@torch.no_grad()
def test_encoders(parts: Parts) -> None:
    golden, query = parts.golden, parts.queries[1]
    golden.check("frame1_key", query.key)
    golden.check("frame1_shrinkage", query.shrinkage)
    golden.check("frame1_selection", query.selection)
    golden.check("frame1_pixfeat", query.pixel)
    for name, feature in zip(("f4", "f8", "f16"), query.features, strict=True):
        golden.check(f"frame1_{name}", feature)
    none = 1 - parts.state.masks.probs.sum(1, keepdim=True)
    golden.check("frame0_probs_sub", torch.cat([none, parts.state.masks.probs], 1)[0], absolute=True)
    golden.check("frame0_value", maps(parts.value0))
    golden.check("frame0_sensory", parts.state1.sensory[0])
    golden.check("frame0_summaries", parts.state1.objects[0])


@torch.no_grad()
def test_summary_weights_and_position_code(parts: Parts) -> None:
    golden, summariser = parts.golden, parts.network.summariser
    code = position_code(parts.readout)
    golden.check("position_code", code.view(6, 10, 256))
    logits = summariser.weight(summariser.project(parts.value0[0]) + code)
    golden.check("frame0_summary_logits", logits.view(2, 6, 10, 16))


@torch.no_grad()
def test_memory_read(parts: Parts) -> None:
    (_, key0, shrinkage, *_), (_, key1, _, selection, *_) = parts.queries
    queries = expand_query(flatten_hw(key1)[0], flatten_hw(selection)[0]) * 129**-0.5
    parts.golden.check("similarity", expand_keys(flatten_hw(key0)[0], flatten_hw(shrinkage)[0]) @ queries.T)
    parts.golden.check("readout_top30", parts.readout[0])


@torch.no_grad()
def test_object_transformer(parts: Parts) -> None:
    golden, network, query = parts.golden, parts.network, parts.queries[1]
    shared = network.pixel_fuser.fuser.forward_shared(query.pixel)
    small = F.avg_pool2d(parts.state.masks.probs[0], 16).unsqueeze(1)
    [fused] = network.pixel_fuser(
        parts.readout[0], parts.state1.sensory[0], torch.cat([small, small.flip(0)], 1), shared
    )
    golden.check("frame1_fused", fused)
    golden.check("frame1_object_readout", parts.transformed[0])
    golden.check("frame1_query_logits", parts.levels[0])
    blocked = network.transformer.blocked(parts.levels[:, :, 0], parts.masks1.slot_mask)
    assert np.array_equal(blocked.view(2, 16, 6, 10).numpy(), golden["attention_mask0"].astype(bool))


@torch.no_grad()
def test_decoder_and_sensory_memory(parts: Parts) -> None:
    golden, network, query = parts.golden, parts.network, parts.queries[1]
    golden.check("frame1_logits", parts.log_odds[0])
    golden.check("frame1_sensory", parts.sensory1[0])
    golden.check("frame1_aggregated_logits", parts.logits[0])
    golden.check("frame1_probs", parts.logits.softmax(1)[0], absolute=True)
    golden.check("sensory_aux_logits", network.sensory_log_odds(query, parts.state1.sensory)[0, :, 0])
    value, sensory, summaries = network.value(parts.images[1:2], query.pixel, parts.masks1, parts.sensory1)
    golden.check("frame1_value", maps(value))
    golden.check("frame1_sensory_deep", sensory[0])
    golden.check("frame1_summaries", summaries[0])
    both = replace(parts.state1, objects=parts.state1.objects + summaries)
    golden.check("object_readout_two_frames", network.transform(query, parts.readout, both)[0][0])
