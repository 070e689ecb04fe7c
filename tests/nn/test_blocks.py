from __future__ import annotations

import pytest
import torch

from voslab.core import Masks
from voslab.nn.backbone import Pyramid
from voslab.nn.blocks import CBAM, FeatureFusion, ResBlock, SharedConv2d, SharedResBlock, add_shared
from voslab.nn.decoders import STMDecoder
from voslab.nn.encoders import MaskEncoder, masks_with_others

B, OBJECTS = 2, 3


def joined(own: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """What the published networks concatenate: each object's channels, then its frame's."""
    return torch.cat([own, shared.repeat_interleave(OBJECTS, 0)], 1)


@pytest.fixture
def parts() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(B * OBJECTS, 4, 6, 5), torch.randn(B, 3, 6, 5)


def test_each_object_gets_its_own_frames_share() -> None:
    own = torch.zeros(4, 1, 1, 1)
    assert add_shared(own, torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)).flatten().tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("kernel", [1, 3])
@torch.no_grad()
def test_a_shared_convolution_is_one_over_the_joined_channels(
    parts: tuple[torch.Tensor, torch.Tensor], kernel: int
) -> None:
    own, shared = parts
    conv = SharedConv2d(4, 3, 5, kernel)
    assert torch.allclose(conv(own, conv.forward_shared(shared)), conv(joined(own, shared)), atol=1e-5)


@torch.no_grad()
def test_a_shared_block_is_one_over_the_joined_channels(parts: tuple[torch.Tensor, torch.Tensor]) -> None:
    own, shared = parts
    block, plain = SharedResBlock(4, 3, 5), ResBlock(7, 5)
    plain.load_state_dict(block.state_dict())
    assert torch.allclose(block(own, block.forward_shared(shared)), plain(joined(own, shared)), atol=1e-5)


@torch.no_grad()
def test_the_decoders_share_changes_nothing(parts: tuple[torch.Tensor, torch.Tensor]) -> None:
    own, value = parts
    decoder = STMDecoder(4, 3, 2, 2, width=8)
    features = Pyramid(torch.randn(B, 2, 24, 20), torch.randn(B, 2, 12, 10), torch.randn(B, 9, 6, 5))
    together = decoder(own, decoder.forward_shared(value, features))
    assert together.shape == (B * OBJECTS, 1, 96, 80)
    alone = STMDecoder(7, 0, 2, 2, width=8)
    alone.load_state_dict(decoder.state_dict())
    assert torch.allclose(together, alone(joined(own, value), alone.forward_shared(None, features)), atol=1e-5)


@torch.no_grad()
def test_attention_only_dims() -> None:
    x = torch.randn(2, 16, 5, 5)
    ratio = CBAM(16)(x) / x
    assert ((ratio > 0) & (ratio < 1)).all()


@pytest.mark.parametrize("kernel", [1, 3])
def test_fusion_sees_as_far_as_its_kernel(kernel: int) -> None:
    fusion = FeatureFusion(4, 3, 8, kernel)
    own = torch.randn(2, 4, 9, 9, requires_grad=True)
    # The spatial gate looks around itself in both; without attention only the kernels do.
    fusion.attention = torch.nn.Identity()
    fusion(own, fusion.forward_shared(torch.randn(1, 3, 9, 9)))[0, :, 4, 4].sum().backward()
    assert own.grad is not None
    reached = (own.grad[0].abs().sum(0) > 0).sum()
    # Four 3x3 convolutions reach 9x9 cells; a ReLU may close a few corners.
    assert reached == 1 if kernel == 1 else reached > 49


@torch.no_grad()
def test_a_mask_encoder_is_a_resnet_over_image_mask_and_others() -> None:
    encoder = MaskEncoder("resnet18", "group", 8).eval()
    image, probs = torch.randn(B, 3, 32, 32), torch.rand(B * OBJECTS, 2, 32, 32)
    features = encoder.encode(encoder.conv1(image), probs)
    weight = torch.cat([encoder.conv1.weight, encoder.conv1_mask.weight], 1)
    inputs = torch.cat([image.repeat_interleave(OBJECTS, 0), probs], 1)
    expected = encoder.forward_stem(torch.nn.functional.conv2d(inputs, weight, stride=2, padding=3))[-1]
    assert torch.allclose(features, expected, atol=1e-5)
    assert features.shape == (B * OBJECTS, encoder.channels[-1], 2, 2)


def test_others_are_all_other_valid_objects() -> None:
    probs = torch.tensor([0.5, 0.7, 0.9]).view(1, 3, 1, 1)
    slot_mask = torch.tensor([[True, True, False]])
    clamped = masks_with_others(Masks(probs, slot_mask), clamp=True)
    assert torch.allclose(clamped.flatten(), torch.tensor([0.5, 0.7, 0.7, 0.5, 0, 1.0]))
    summed = masks_with_others(Masks(probs, slot_mask), clamp=False)
    assert summed.flatten()[-1].item() == pytest.approx(1.2)
