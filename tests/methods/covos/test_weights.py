from __future__ import annotations

import pytest
import torch

from tests.golden.support import published
from voslab.methods import registry
from voslab.methods.covos.decoder import Decoder
from voslab.methods.covos.weights import convert, convert_encoder
from voslab.nn.resnet import ResNet


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_published_propagator_is_the_whole_decoder(prefix: str) -> None:
    weights = {f"{prefix}{key}": value for key, value in published("covos").items()}
    bare = {key.replace("soft_propagation.", ""): value for key, value in weights.items()}
    for given in (weights, bare):
        ours = convert(given)
        assert ours is not None
        assert ours.keys() == {f"decoder.{key}" for key in Decoder().state_dict()}
    assert convert({"conv1.weight": torch.zeros(1)}) is None


@pytest.mark.parametrize("prefix", ["rgb_encoder.", "key_encoder.", "encoder.", ""])
@pytest.mark.parametrize("layer", ["res2.", "layer1."])
def test_the_light_encoder_is_found_in_larger_files(prefix: str, layer: str) -> None:
    encoder = ResNet("resnet50", layers=3)
    expected = ResNet("resnet50", layers=1).state_dict()
    weights = {f"{prefix}{key.replace('layer1.', layer)}": value for key, value in encoder.state_dict().items()}
    ours = convert_encoder({**weights, "other.conv1.weight": torch.zeros(1), "decoder.bias": torch.zeros(1)})
    assert ours is not None
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in expected.items()}
    assert all(torch.equal(value, encoder.state_dict()[key]) for key, value in ours.items())


def test_file_without_an_encoder_is_not_converted() -> None:
    assert convert_encoder({"decoder.weight": torch.zeros(1)}) is None


@torch.no_grad()
def test_light_encoder_is_extracted_from_a_base() -> None:
    small = {"backbone": "resnet18", "norm": "group", "width": 8}
    base = registry.build("stcn", small)
    assert isinstance(base, torch.nn.Module)
    ours = convert_encoder(base.state_dict())
    assert ours is not None
    light = ResNet("resnet18", "group", 8, layers=1)
    light.load_state_dict(ours)
    image = torch.rand(1, 3, 32, 48)
    encoder = base.get_submodule("encoder")
    assert torch.equal(light(image)[0], encoder(image)[0])
