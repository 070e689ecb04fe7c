"""Optimises a network for inference: folds batch norm and ReLU6 into convolutions, and makes it channels-last."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from voslab.nn.backbone import Backbone
from voslab.nn.efficientnet_lite import InvertedResidual
from voslab.nn.resnet import BasicBlock, Bottleneck


@torch.no_grad()
def for_inference(network: nn.Module) -> None:
    """Optimise a network for inference, in place. Its outputs do not change except for rounding.

    The batch norms of its encoders are folded into the convolutions before them, so its state dict no longer fits the
    network that trains. Weights become channels-last.

    Args:
        network: any network; it is in evaluation mode and needs no gradients afterwards.

    Example:
        >>> from voslab.nn.resnet import ResNet
        >>> network = ResNet("resnet18", layers=1)
        >>> for_inference(network)
        >>> network.bn1
        Identity()
    """
    network.eval().requires_grad_(False)
    for module in list(network.modules()):
        if isinstance(module, Backbone):
            _fold(module, "bn1", *module.stem_convolutions())
        elif isinstance(module, (BasicBlock, Bottleneck)):
            for number in range(1, 4 if isinstance(module, Bottleneck) else 3):
                _fold(module, f"bn{number}", module.get_submodule(f"conv{number}"))
            if module.downsample is not None:
                _fold(module.downsample, "1", module.downsample[0])
        elif isinstance(module, InvertedResidual):
            for name, convolution in module.normalised():
                _fold(module, name, module.get_submodule(convolution))
            if isinstance(module.bn1, nn.Identity) and isinstance(module.relu, nn.ReLU6):
                module.fuse()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fold(owner: nn.Module, name: str, *convolutions: nn.Module) -> None:
    """Fold a batch norm into the convolutions whose sum it normalises; the first of them takes the bias."""
    norm = owner.get_submodule(name)
    if not isinstance(norm, nn.BatchNorm2d):
        return
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    first: Tensor | None = norm.bias
    for convolution in convolutions:
        assert isinstance(convolution, nn.Conv2d)
        weight, bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, first
        )
        convolution.weight = weight.requires_grad_(False)
        if first is not None:
            convolution.bias = bias.requires_grad_(False)
        mean, first = torch.zeros_like(mean), None
    setattr(owner, name, nn.Identity())
