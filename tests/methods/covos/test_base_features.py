"""F from the base's own encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.methods.covos.world import BASE, ORDER, F, frame, given, video
from voslab.core import Frame, LowLevel
from voslab.methods import registry
from voslab.methods.checkpoint import load_light_encoder
from voslab.methods.covos.network import CoVOS

SMALL = {**F, "key_channels": 8, "value_channels": 16, "decoder_width": 8}
BASES: dict[str, dict[str, Any]] = {
    "crvos": {**F, "refine_width": 8},
    "cutie": BASE,
    "frtm": {**F, "refine_width": 8, "channels": 4, "augmentations": 2, "fit_steps": [2], "update_steps": [2]},
    "gam": {**SMALL, "mem_channels": 16},
    "mivos": BASE,
    "stcn": BASE,
    "stm": SMALL,
    "swiftnet": SMALL,
    "xmem": BASE,
}


def covos(name: str, **switches: Any) -> CoVOS:
    torch.manual_seed(0)
    base: Any = registry.build(name, BASES[name])
    return CoVOS(base, **{**F, **switches}).eval()


def test_every_method_with_an_encoder_offers_features() -> None:
    offering = {name for name in BASES if isinstance(registry.build(name, BASES[name]), LowLevel)}
    assert offering == set(BASES)


@pytest.mark.parametrize("name", BASES)
@torch.no_grad()
def test_base_features_equal_a_light_encoder_with_its_weights(name: str) -> None:
    own, tied = covos(name), covos(name, features="base")
    load_light_encoder(own, "covos", "base")
    tied.load_state_dict({key: own.state_dict()[key] for key in tied.state_dict()})
    assert tied.encoder is None
    assert torch.equal(tied.encode(frame(1)), own.encode(frame(1)))
    expected, _ = video(own, given(2))
    outputs, _ = video(tied, given(2))
    assert all(torch.equal(outputs[index], expected[index]) for index in ORDER[1:])


@pytest.mark.parametrize(("name", "config"), [("swiftnet", SMALL), ("stcn", {**BASE, "mask_backbone": "light"})])
@torch.no_grad()
def test_features_that_the_base_holds_are_not_computed_again(name: str, config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    base: Any = registry.build(name, config)
    network = CoVOS(base, **{**F, "features": "base"}).eval()
    state = base.begin(frame(0), given())
    assert base.held_features(state) is None
    _, state = base.step(frame(1), state)
    assert torch.equal(base.held_features(state), base.features(frame(1)))
    holds = base.held_features
    base.held_features = lambda state: None
    expected, _ = video(network)
    base.held_features = holds
    seen, features = [], base.features

    def counted(frame: Frame) -> Tensor:
        seen.append(frame.index)
        return features(frame)

    base.features = counted
    outputs, _ = video(network)
    keys = {index for index in ORDER[1:] if frame(index).key}
    assert sorted(seen) == sorted({*ORDER} - keys)
    assert all(torch.equal(outputs[index], expected[index]) for index in ORDER[1:])


@torch.no_grad()
def test_a_base_whose_value_encoder_sees_the_image_holds_no_features() -> None:
    base: Any = registry.build("stcn", BASE)
    _, state = base.step(frame(1), base.begin(frame(0), given()))
    assert base.held_features(state) is None


@torch.no_grad()
def test_features_are_computed_once_per_frame_and_only_for_b_frames() -> None:
    network = covos("stcn", features="base")
    seen, features = [], network.base.features

    def counted(frame: Frame) -> Tensor:
        seen.append(frame.index)
        return features(frame)

    network.base.features = counted
    video(network)
    assert sorted(seen) == sorted(ORDER)
    seen.clear()
    state = network.begin(frame(0), given())
    for index in ORDER[1:]:
        _, state = network.step(frame(index, plain=True), state)
    assert not seen
