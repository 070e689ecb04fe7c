from __future__ import annotations

import pytest
import torch

from tests.golden import fill
from tests.golden.support import Golden, published
from voslab.nn.normalise import Normalise
from voslab.nn.resnet import DEPTHS, ResNet


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@torch.no_grad()
def test_features_equal_the_golden_ones(name: str) -> None:
    golden = Golden("resnet")
    weights = published("resnet", name, name)
    assert fill.digest(weights) == golden.meta["weights_digest"][name]
    network = ResNet(name).eval()
    network.load_state_dict({key: value for key, value in weights.items() if not key.startswith("fc.")})
    x = Normalise()(golden.frames(golden.meta))
    golden.check(f"{name}_maxpool", network.maxpool(network.relu(network.bn1(network.conv1(x)))))
    for i, feature in enumerate(network(x)):
        golden.check(f"{name}_layer{i + 1}", feature)


@pytest.mark.parametrize("name", list(DEPTHS))
@pytest.mark.parametrize("dilated", [False, True])
def test_every_depth_has_the_promised_shapes(name: str, dilated: bool) -> None:
    network = ResNet(name, norm="group", width=8, dilated=dilated)
    strides = (4, 8, 16, 16 if dilated else 32)
    for feature, channels, stride in zip(network(torch.zeros(1, 3, 64, 96)), network.channels, strides, strict=True):
        assert feature.shape == (1, channels, 64 // stride, 96 // stride)


def test_group_norm_has_no_running_statistics() -> None:
    assert not [key for key in ResNet("resnet18", norm="group").state_dict() if "running" in key]


def test_unknown_depth_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"unknown backbone 'resnet19', choose from resnet18"):
        ResNet("resnet19")
