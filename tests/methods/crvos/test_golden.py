"""CRVOS against numbers of the published implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.golden.support import Golden
from voslab.core import Frame, Masks
from voslab.methods.crvos.network import CRVOS
from voslab.methods.crvos.weights import convert


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("crvos")


@pytest.fixture(scope="module")
def network(golden: Golden) -> CRVOS:
    return golden.load(CRVOS(), convert)


@pytest.mark.parametrize("case", ["k1", "k2"])
@torch.no_grad()
def test_layers(golden: Golden, network: CRVOS, case: str) -> None:
    frames = golden.frames(golden.meta["cases"][case])
    probs = torch.from_numpy(golden[f"{case}_masks_u8"]).float().unsqueeze(0)
    features = network.encode(frames[1:2])
    golden.check(f"{case}_s16", features.f16)
    golden.check(f"{case}_s8", features.f8)
    golden.check(f"{case}_s4", features.f4)
    clue = network.clue(probs)
    golden.check(f"{case}_clue", clue[0])

    outputs: dict[str, torch.Tensor] = {}
    names = {"up1": "out_16", "up2": "out_8", "up3": "out_4", "skip": "up_16", "predictor": "scores"}
    hooks = [
        getattr(network.refine, ours).register_forward_hook(lambda _m, _i, out, name=name: outputs.update({name: out}))
        for ours, name in names.items()
    ]
    network.decode(features, clue)
    for hook in hooks:
        hook.remove()
    for name, value in outputs.items():
        golden.check(f"{case}_{name}", value)
    assert set(outputs) == set(names.values())


@pytest.mark.parametrize("case", ["k1", "k2"])
@pytest.mark.parametrize("chunk", [1, 16])
@torch.no_grad()
def test_video(golden: Golden, network: CRVOS, case: str, chunk: int) -> None:
    network.object_chunk = chunk
    frames = golden.frames(golden.meta["cases"][case])
    probs = torch.from_numpy(golden[f"{case}_masks_u8"]).float().unsqueeze(0)
    slot_mask = torch.ones(1, probs.shape[1], dtype=torch.bool)
    state = network.begin(Frame(0, frames[:1]), Masks(probs, slot_mask))
    probabilities, labels = [], []
    for index in range(1, len(frames)):
        if index == len(frames) - 1:
            golden.check(f"{case}_clue_last", network.clue(state.masks.probs)[0])
        logits, state = network.step(Frame(index, frames[index : index + 1]), state)
        probabilities.append(logits.softmax(1)[0, 1:])
        labels.append(logits.argmax(1)[0])
    golden.check(f"{case}_probs", torch.stack(probabilities), absolute=True)
    golden.check_labels(f"{case}_labels", np.stack(labels))
