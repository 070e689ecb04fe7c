from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from voslab.nn.convolutions import ConvReLU6
from voslab.nn.efficientnet_lite import EfficientNetLite
from voslab.nn.encoders import MaskEncoder
from voslab.nn.inference import for_inference
from voslab.nn.resnet import ResNet


def shaken(network: nn.Module) -> nn.Module:
    """Batch norms as after training: no statistic, scale or shift is neutral."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 2, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(generator=generator)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_resnet_without_its_batch_norms_computes_the_same(name: str, bias: bool) -> None:
    network = shaken(ResNet(name, width=8, bias=bias)).double()
    image = torch.rand(2, 3, 64, 96, dtype=torch.double)
    before = network(image)
    for_inference(network)
    assert norms(network) == 0
    for ours, theirs in zip(network(image), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        assert ours.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bias", [False, True])
def test_a_mask_encoder_has_two_convolutions_before_one_norm(bias: bool) -> None:
    network = shaken(MaskEncoder("resnet18", width=8, bias=bias)).double()
    assert isinstance(network, MaskEncoder)
    image, masks = torch.rand(1, 3, 64, 64, dtype=torch.double), torch.rand(3, 2, 64, 64, dtype=torch.double)

    def features() -> Tensor:
        return network.encode(network.conv1(image), masks)

    before = features()
    for_inference(network)
    assert norms(network) == 0
    torch.testing.assert_close(features(), before, rtol=1e-10, atol=1e-10)


def test_group_norm_stays() -> None:
    network = ResNet("resnet18", "group", width=8).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for_inference(network)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert len(before) == len(network.state_dict())


@pytest.mark.parametrize("size", [(64, 96), (65, 97)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_efficientnet_with_fused_activations_computes_the_same(size: tuple[int, int], dtype: torch.dtype) -> None:
    network = shaken(EfficientNetLite("efficientnet_lite0")).to(dtype)
    image = torch.rand(2, 3, *size, dtype=dtype)
    before = network(image)
    for_inference(network)
    for_inference(network)
    assert norms(network) == 0
    assert sum(isinstance(module, ConvReLU6) for module in network.modules()) == 31
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    for ours, theirs in zip(network(image), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        assert ours.is_contiguous(memory_format=torch.channels_last)


def test_fused_activations_follow_autocast() -> None:
    network = shaken(EfficientNetLite("efficientnet_lite0", layers=1))
    image = torch.rand(1, 3, 64, 64)
    before = network(image)[0]
    for_inference(network)
    with torch.autocast("cpu", torch.bfloat16):
        after = network(image)[0]
    assert after.dtype == torch.bfloat16
    torch.testing.assert_close(after.float(), before, rtol=0.1, atol=0.1)


def test_an_efficientnet_with_group_norm_keeps_its_activations() -> None:
    network = EfficientNetLite("efficientnet_lite0", "group").eval()
    image = torch.rand(1, 3, 64, 64)
    before = network(image)
    for_inference(network)
    assert not any(isinstance(module, ConvReLU6) for module in network.modules())
    for ours, theirs in zip(network(image), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
