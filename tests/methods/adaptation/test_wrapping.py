from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.methods.adaptation.world import BASES, TINY, adapted, base, frame, masks, outputs
from voslab.core import ConfigError, Frame, KeyMatching, LowLevel, Masks, Segmenter
from voslab.methods import registry
from voslab.methods.adaptation.network import Adapted
from voslab.methods.covos.network import CoVOS


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@torch.no_grad()
def test_covos_accepts_an_adapted_base() -> None:
    network = CoVOS(adapted("stcn"), refine=False, backbone="resnet18", width=8, norm="group").eval()
    assert equal(outputs(network, 4, 2, late=2), outputs(adapted("stcn"), 4, 2, late=2))


@torch.no_grad()
def test_low_level_features_come_from_the_base() -> None:
    network: Any = adapted("stcn")
    assert isinstance(network, LowLevel)
    assert isinstance(network, Segmenter)
    assert torch.equal(network.features(frame(0)), network.base.features(frame(0)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"base": {"name": "crvos", "network": {"backbone": "resnet18", "width": 8}}}, "CRVOS compares no keys"),
        ({"base": {"name": "copy_first", "network": {}}}, "CopyFirst compares no keys"),
        (
            {"base": {"name": "gam", "network": {**BASES["gam"], "key_norm": "none"}}},
            "affinity is no distribution",
        ),
        ({"base": {"name": "gam", "network": BASES["gam"]}, "scale": 1.0}, "scale=1.0: a GAM scales no similarities"),
        ({"base": {"name": "stcn", "network": BASES["stcn"]}, "steps": -1}, "steps=-1"),
    ],
)
def test_invalid_bases_and_numbers_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        registry.build("adaptation", parameters)
    assert "\n" not in str(error.value)


def test_matching_methods_are_valid_bases() -> None:
    for name in registry.names():
        if name in BASES:
            assert isinstance(base(name), KeyMatching)
    assert not isinstance(registry.build("crvos", {"backbone": "resnet18", "width": 8}), KeyMatching)
    assert not isinstance(adapted("stcn"), KeyMatching)
    assert set(TINY) <= set(BASES["stm"])


@torch.no_grad()
def test_clips_of_a_batch_have_their_own_keys() -> None:
    network = adapted("swiftnet")
    both = network.begin(frame(0, 2), masks(1, 2))
    together, _ = network.step(frame(1, 2), both)
    first, second = frame(0, 2).image, frame(1, 2).image
    one = Masks(masks(1, 2).probs[1:], masks(1, 2).slot_mask[1:])
    alone, _ = network.step(Frame(1, second[1:]), network.begin(Frame(0, first[1:]), one))
    assert torch.allclose(together[1:], alone, atol=1e-3)


@torch.no_grad()
def test_base_options_can_be_overridden() -> None:
    parameters = {"base": {"name": "swiftnet", "network": BASES["swiftnet"]}, "steps": 1}
    static: Any = registry.build("adaptation", {**parameters, "base_network": {"memory_every": 99}})
    assert (static.base.memory_every, BASES["swiftnet"]["memory_every"]) == (99, 2)
    with pytest.raises(ConfigError, match="memory_evry"):
        registry.build("adaptation", {**parameters, "base_network": {"memory_evry": 99}})


@pytest.mark.parametrize("name", BASES)
@torch.no_grad()
def test_static_memory_holds_only_the_first_frame(name: str) -> None:
    changes: dict[str, Any] = {"update_every": 9**9} if name == "gam" else {"memory_every": 9**9}
    changes |= {"memory_previous": False} if name not in ("gam", "cutie", "xmem") else {}
    network: Any = Adapted(base(name, **changes), steps=1).eval()
    sizes = []
    state = network.begin(frame(0), masks(1))
    for index in range(1, 5):
        _, state = network.step(frame(index), state)
        sizes.append(state.base.memory.nbytes())
    assert len(set(sizes)) == 1
    assert "frames" not in vars(state.base.memory) or state.base.memory.frames == [1]
