"""XMem against numbers of the published implementation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden import fill
from tests.golden.support import Golden, published
from tests.golden.videos import run_video
from voslab.core import Frame, Masks
from voslab.methods.xmem.module import dice_of_slots
from voslab.methods.xmem.network import XMem, XMemState
from voslab.methods.xmem.weights import convert
from voslab.nn.aggregation import LIMIT, aggregate_product, object_probabilities
from voslab.nn.anisotropic import affinities, expand_keys, expand_query
from voslab.nn.blocks import flatten_hw
from voslab.nn.long_term_memory import ClipMemory, LongTermMemory, LongTermPolicy
from voslab.nn.losses import bootstrap_ratio, bootstrapped_nll


class Parts:
    """Frames 0 to 2 through the modules."""

    def __init__(self) -> None:
        self.golden = Golden("xmem")
        self.network = self.golden.load(XMem(), convert)
        frames, masks = self.golden.given()
        self.queries = [self.network.encode(frames[i : i + 1]) for i in range(4)]
        self.images = frames
        state = self.network.begin(Frame(0, frames[:1]), masks)
        self.masks0 = state.masks
        self.value0, self.sensory0 = self.network.value(
            frames[:1], self.queries[0].features.f16, state.masks, state.sensory, deep=True
        )
        self.state1 = self.network.memorise(state)
        self.readout, _ = self.network.read(self.queries[1], self.state1.memory)
        self.log_odds, updated = self.network.decode(self.queries[1], self.readout, self.sensory0)
        assert updated is not None
        self.sensory1 = updated
        self.logits = aggregate_product(self.log_odds, masks.slot_mask)
        self.masks1 = Masks(object_probabilities(self.logits), masks.slot_mask)

    def flat(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        query = self.queries[index]
        return tuple(flatten_hw(x)[0] for x in (query.key, query.shrinkage, query.selection))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def parts() -> Parts:
    with torch.no_grad():
        return Parts()


def maps(values: Tensor) -> Tensor:
    return values[0].transpose(1, 2).unflatten(2, (6, 10))


def test_encoders(parts: Parts) -> None:
    golden, query = parts.golden, parts.queries[1]
    golden.check("frame1_key", query.key)
    golden.check("frame1_shrinkage", query.shrinkage)
    golden.check("frame1_selection", query.selection)
    for name, feature in zip(("f4", "f8", "f16"), query.features, strict=True):
        golden.check(f"frame1_{name}", feature)
    none = 1 - parts.masks0.probs.sum(1, keepdim=True)
    golden.check("frame0_probs_sub", torch.cat([none, parts.masks0.probs], 1)[0], absolute=True)
    golden.check("frame0_value", maps(parts.value0))
    golden.check("frame0_hidden", parts.sensory0[0])


@torch.no_grad()
def test_memory_read(parts: Parts) -> None:
    golden, network = parts.golden, parts.network
    keys, shrinkage, _ = parts.flat(0)
    query, _, selection = parts.flat(1)
    queries, expanded = expand_query(query, selection) * 129**-0.5, expand_keys(keys, shrinkage)
    golden.check("similarity", expanded @ queries.T)
    for name, top_k in (("top30", 30), ("full", None)):
        [(weights, index)], usage = affinities(queries, expanded, [None], top_k, 7)
        full = weights if index is None else torch.zeros(60, 60).scatter(1, index, weights)
        golden.check(f"affinity_{name}", full.T)
        if top_k:
            golden.check("usage_top30", usage)
    golden.check("readout_top30", parts.readout[0])
    golden.check("readout_full", network.train().read(parts.queries[1], parts.state1.memory)[0][0])
    network.eval()


@torch.no_grad()
def test_decoder_and_sensory_memory(parts: Parts) -> None:
    golden = parts.golden
    golden.check("frame1_logits", parts.log_odds[0])
    golden.check("frame1_hidden", parts.sensory1[0])
    golden.check("frame1_probs", parts.logits.softmax(1), absolute=True)
    f16 = parts.queries[1].features.f16
    value, deeper = parts.network.value(parts.images[1:2], f16, parts.masks1, parts.sensory1, deep=True)
    golden.check("frame1_value", maps(value))
    golden.check("frame1_hidden_deep", deeper[0])


@torch.no_grad()
def test_consolidation(parts: Parts) -> None:
    """Three frames between a first and a last one become prototypes, chosen by a given usage."""
    golden, network = parts.golden, parts.network
    usage = torch.from_numpy(np.random.default_rng([golden.meta["seed"], 303]).permutation(180) / 180)
    golden.check("candidate_usage", usage.double())
    value1, _ = network.value(parts.images[1:2], parts.queries[1].features.f16, parts.masks1, parts.sensory1)
    value2, _ = network.value(parts.images[2:3], parts.queries[2].features.f16, parts.masks1, parts.sensory1)
    # All but the first frame are candidates, so one stands before the three of the case.
    memory = LongTermMemory.empty(1, LongTermPolicy(max_frames=5, min_frames=1, prototypes=32)).extend(2)
    for index, value in ((3, value1), (0, parts.value0), (1, value1), (2, value2)):
        memory = memory.write(*(x.unsqueeze(0) for x in parts.flat(index)), value)
    [clip] = memory.clips
    assert clip.working is not None
    counters = torch.cat([torch.zeros(60), usage.float()])
    counters = torch.stack([counters, torch.ones(240)], 1)[None, None]
    clip = replace(clip, working=replace(clip.working, usage=counters))
    assert usage.float().topk(32).indices.tolist() == golden["prototype_indices"].tolist()
    clip = clip.consolidate()
    assert clip.sizes == (60, 32)
    assert clip.long is not None
    golden.check("prototype_key", clip.long.keys[0, 0].T)
    golden.check("prototype_shrinkage", clip.long.shrinkage[0, 0].T)
    assert clip.groups[0].long is not None
    golden.check("prototype_value", clip.groups[0].long[0].transpose(1, 2))


POLICIES = [
    (name, policy)
    for name in ("single", "multi")
    for policy in ("long_term", "plain_every3", "async_deep", "late_object")
    if (name, policy) != ("single", "late_object")
]


class Recorded(XMem):
    """Notes sizes and sums of the memories after each frame."""

    def memorise(self, state: XMemState) -> XMemState:
        after = super().memorise(state)
        [clip] = after.memory.clips
        self.sizes.append(clip.sizes)
        sensory = after.sensory.detach()
        self.sums.append([float(sensory.sum()), float(sensory.abs().sum())])
        if clip.long is not None and clip.groups[0].frames is not None and len(clip.groups[0].frames) < self.frames:
            self.consolidated.append(clip.clone())
        self.frames = clip.frames
        return after

    def configure(self, config: dict[str, Any]) -> None:
        deep = config["deep_update_every"]
        self.deep_update_every = None if deep == -1 else deep
        self.memory_every, self.top_k = config["mem_every"], config["top_k"]
        self.policy = LongTermPolicy(enabled=False)
        if config["enable_long_term"]:
            numbers = ("max_mid_term_frames", "min_mid_term_frames", "num_prototypes", "max_long_term_elements")
            self.policy = LongTermPolicy(True, *(config[name] for name in numbers))
        self.sizes: list[tuple[int, int]] = []
        self.sums: list[list[float]] = []
        self.consolidated: list[ClipMemory] = []
        self.frames = 0


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    made = Recorded(object_chunk=2)
    ours = convert(published("xmem"))
    assert ours is not None
    made.load_state_dict(ours)
    return made.eval()


def run(model: Recorded, golden: Golden, late: int | None) -> Tensor:
    """Probabilities of all frames of a golden video, whose last object is given in frame `late`."""
    probs, state = run_video(model, golden, late)
    # The last frame is not memorised.
    model.sizes.append(model.sizes[-1])
    model.sums.append([float(state.sensory.sum()), float(state.sensory.abs().sum())])
    return probs


@pytest.mark.parametrize(("name", "policy"), POLICIES)
@torch.no_grad()
def test_video(name: str, policy: str, recorded: Recorded) -> None:
    golden = Golden(f"xmem_video_{name}")
    case = golden.meta["policies"][policy]
    recorded.configure(case["config"])
    probs = run(recorded, golden, case["late_object_frame"])
    golden.check(f"probs_{policy}", probs, absolute=True)
    golden.check_labels(f"labels_{policy}", probs.argmax(1).numpy())
    assert recorded.sizes == [tuple(row) for row in golden[f"sizes_{policy}"].tolist()]
    golden.check(f"hidden_sums_{policy}", torch.tensor(recorded.sums))
    if not case["config"]["enable_long_term"]:
        return
    count = case["config"]["num_prototypes"]
    newest = []
    for clip in recorded.consolidated:
        assert clip.long is not None
        newest.append(clip.long.slice(clip.long.size - count, clip.long.size))
    golden.check(f"long_key_sums_{policy}", torch.stack([keys[0, 0].sum(0) for keys, _, _ in newest]))
    golden.check(f"long_shrinkage_{policy}", torch.stack([shrinkage[0, 0, :, 0] for _, shrinkage, _ in newest]))
    sums = []
    for clip in recorded.consolidated:
        assert clip.long is not None
        parts = [g.long[:, :, clip.long.size - count : clip.long.size] for g in clip.groups if g.long is not None]
        sums.append([sum(float(part.sum()) for part in parts), sum(float(part.abs().sum()) for part in parts)])
    golden.check(f"long_value_sums_{policy}", torch.tensor(sums))


GRADIENTS = {
    "decoder": ("decoder",),
    "key_encoder": ("encoder",),
    "key_proj": ("key", "shrinkage", "selection"),
    "value_encoder": ("mask_encoder", "fuser", "deep_update"),
}


def gradient_norm(network: XMem, parts: tuple[str, ...]) -> float:
    parameters = [p for part in parts for p in network.get_submodule(part).parameters()]
    return float(torch.stack([p.grad.square().sum() for p in parameters if p.grad is not None]).sum().sqrt())


@pytest.mark.parametrize("deep", [0, 1])
def test_training_step(deep: int, recorded: Recorded) -> None:
    golden = Golden("xmem_train")
    case = golden.meta
    images, masks = golden.frames(case), fill.masks(case["seed"], 2, case["height"], case["width"])
    assert fill.array_crc(masks) == case["masks_crc"]
    labels = torch.from_numpy(fill.label_map(masks)).long()
    truth = torch.stack([labels.roll((2 * t, -3 * t), (0, 1)) for t in range(3)])
    slot_mask = torch.tensor([[True, True, False]])
    recorded.configure({"deep_update_every": -1, "mem_every": 1, "top_k": 30, "enable_long_term": False})
    recorded.train_deep = float(deep)
    recorded.train()
    for module in recorded.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    state, outputs = recorded.begin(Frame(0, images[:1]), Masks.from_labels(truth[:1], slot_mask)), []
    for index in (1, 2):
        logits, state = recorded.step(Frame(index, images[index : index + 1]), state)
        outputs.append(logits)
        # Published logits of an unused slot are those of probability zero, clipped.
        golden.check(f"logits_{index}_deep{deep}", torch.cat([logits[0, :3], torch.full_like(logits[0, :1], -LIMIT)]))
    golden.check(f"masks_2_deep{deep}", state.masks.probs[0], absolute=True)
    for step in (0, 45_000, 80_000):
        expected = case["cases"][f"deep{deep}_it{step}"]
        total = torch.zeros(())
        for index, logits in enumerate(outputs, 1):
            labels = truth[index : index + 1]
            ce, dice = bootstrapped_nll(logits, labels, bootstrap_ratio(step)), dice_of_slots(logits, labels)
            assert ce.item() == pytest.approx(expected["losses"][f"ce_loss_{index}"], rel=1e-5)
            assert dice.item() == pytest.approx(expected["losses"][f"dice_loss_{index}"], rel=1e-5)
            total = total + ce + dice
        assert total.item() == pytest.approx(expected["losses"]["total_loss"], rel=1e-5)
        recorded.zero_grad()
        total.backward(retain_graph=True)
        for name, parts in GRADIENTS.items():
            assert gradient_norm(recorded, parts) == pytest.approx(expected["gradient_norms"][name], rel=1e-3), name
    recorded.zero_grad()
    recorded.eval()
