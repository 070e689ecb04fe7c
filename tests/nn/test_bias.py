"""Encoders with biases, as STCN and MiVOS have for masks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from voslab.core import CheckpointError
from voslab.core.weights import load_encoder
from voslab.nn.encoders import MaskEncoder
from voslab.nn.resnet import ResNet


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_every_convolution_has_a_bias_that_is_zero_at_first(name: str) -> None:
    encoder = MaskEncoder(name, width=8, bias=True)
    convolutions = {key: m for key, m in encoder.named_modules() if isinstance(m, nn.Conv2d)}
    mask = convolutions.pop("conv1_mask")
    assert mask.bias is None, "the image's share carries it"
    assert all(m.bias is not None and not m.bias.any() for m in convolutions.values())
    assert not [m for m in MaskEncoder(name, width=8).modules() if isinstance(m, nn.Conv2d) and m.bias is not None]


def test_a_file_without_biases_makes_the_same_encoder(tmp_path: Path) -> None:
    donor = ResNet("resnet18", width=8)
    torch.save(donor.state_dict() | {"fc.weight": torch.zeros(10, 64)}, tmp_path / "imagenet.pth")
    encoder = MaskEncoder("resnet18", width=8, bias=True)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.ones_(module.bias)
    mask = encoder.conv1_mask.weight.clone()
    load_encoder(encoder, tmp_path / "imagenet.pth")
    x = torch.rand(1, 3, 32, 32)
    assert torch.allclose(encoder.eval()(x)[-1], donor.eval()(x)[2], atol=1e-6)
    assert torch.equal(encoder.conv1_mask.weight, mask)


def test_other_biases_are_still_missed(tmp_path: Path) -> None:
    donor = ResNet("resnet18", width=8).state_dict()
    del donor["bn1.bias"]
    torch.save(donor, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"1 keys missing \(first: bn1\.bias\)"):
        load_encoder(MaskEncoder("resnet18", width=8, bias=True), tmp_path / "cut.pth")
