"""CRVOS (Cho et al. 2020): an encoder, the Clue (section 2.2) and three refine modules (section 2.3). No memory.

Shapes: B clips, O objects, N = B O, C channels. The encoder runs once per frame, the decoder once per object.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import Frame, Masks, Segmenter, State, state_dataclass
from voslab.core.parameters import Count
from voslab.core.segmenter import Padding
from voslab.nn.aggregation import aggregate_min, object_probabilities
from voslab.nn.backbone import Norm, Pyramid, low_level_features
from voslab.nn.blocks import add_shared, expand_shared, in_chunks
from voslab.nn.encoders import frame_encoder
from voslab.nn.export_compat import coord_range
from voslab.nn.normalise import Normalise

Specifier = Literal["none", "mask", "clue"]
Refine = Literal["deconv", "bilinear"]
SPECIFIER_CHANNELS: dict[Specifier, int] = {"none": 0, "mask": 2, "clue": 5}


@state_dataclass
class CRVOSState(State):
    """The masks of the previous frame: the given ones, or the aggregated probabilities."""

    masks: Masks


class RefineModule(nn.Module):
    """RM of Figure 2: blends a reduced encoder feature and the previous output by one 3x3 convolution.

    The blend is linear in its two inputs before the ReLU, so the part of the frame is computed once for all objects.
    """

    def __init__(self, skip: int, reduced: int, before: int, outputs: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(skip, reduced, 1)
        self.blend = nn.Conv2d(reduced + before, outputs, 3, padding=1)
        for convolution in (self.reduce, self.blend):
            nn.init.kaiming_uniform_(convolution.weight)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)

    def frame(self, skip: Tensor) -> Tensor:
        """Compute the shared part B outputs h w from the feature B C h w of a frame."""
        weight = self.blend.weight[:, : self.reduce.out_channels]
        return F.conv2d(F.relu(self.reduce(skip)), weight, self.blend.bias, padding=1)

    def forward(self, frame: Tensor, before: Tensor) -> Tensor:
        """Blend the shared part B outputs h w and the input N C h w of each object: N outputs h w."""
        weight = self.blend.weight[:, self.reduce.out_channels :]
        if not weight.shape[1]:
            return expand_shared(F.relu(frame), before.shape[0] // frame.shape[0])
        return F.relu(add_shared(F.conv2d(before, weight, padding=1), frame), inplace=True)


class DeconvDecoder(nn.Module):
    """Three refine modules, each followed by a deconvolution to two channels; the predictor uses all three."""

    def __init__(self, channels: tuple[int, ...], specifier: int, width: int) -> None:
        super().__init__()
        self.rm1 = RefineModule(channels[3], 2 * width, specifier, width)
        self.rm2 = RefineModule(channels[1], width, 2, width)
        self.rm3 = RefineModule(channels[0], width, 2, width)
        self.up1 = nn.ConvTranspose2d(width, 2, 4, 2, 1)
        self.up2 = nn.ConvTranspose2d(width, 2, 4, 2, 1)
        self.up3 = nn.ConvTranspose2d(width, 2, 3, 1, 1)
        self.skip = nn.ConvTranspose2d(2, 2, 4, 2, 1)
        self.predictor = nn.ConvTranspose2d(6, 2, 6, 4, 1)

    def forward(self, shares: tuple[Tensor, Tensor, Tensor], clue: Tensor) -> Tensor:
        """Decode the shared parts of the refine modules (B width h w) and the clue (N C h w) to scores N 2 H W."""
        out16 = self.up1(self.rm1(shares[0], clue))
        out8 = self.up2(self.rm2(shares[1], out16))
        out4 = self.up3(self.rm3(shares[2], out8))
        scores: Tensor = self.predictor(torch.cat([self.skip(out16), out8, out4], 1))
        return scores


class BilinearDecoder(nn.Module):
    """The general refine module of Table 3, row IV: one convolution and bilinear upsampling, one output."""

    def __init__(self, channels: tuple[int, ...], specifier: int, width: int) -> None:
        super().__init__()
        self.rm1 = RefineModule(channels[3], 2 * width, specifier, width)
        self.rm2 = RefineModule(channels[1], width, width, width)
        self.rm3 = RefineModule(channels[0], width, width, width)
        self.predictor = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, shares: tuple[Tensor, Tensor, Tensor], clue: Tensor) -> Tensor:
        """See `DeconvDecoder.forward`."""
        x = _upsample(self.rm1(shares[0], clue), 2)
        x = _upsample(self.rm2(shares[1], x), 2)
        return _upsample(self.predictor(self.rm3(shares[2], x)), 4)


class CRVOS(Segmenter[CRVOSState]):
    """CRVOS as a `Segmenter`.

    Args:
        backbone: ResNet or EfficientNet-Lite of the encoder, with layer4 at stride 16; `resnet50` in the paper.
        specifier: input that specifies the object (Table 3): `none`, the coarse previous `mask`, or the `clue`.
        refine: the paper's `deconv` modules, or general `bilinear` ones.
        norm: normalisation of the encoder; use `group` for training from random initialisation.
        width: width of the encoder; 64 as published.
        refine_width: channels of the refine modules; 128 as published.
        object_chunk: number of objects that are decoded at a time; bounds memory only.
    """

    stride = 16
    variant_modules: ClassVar[tuple[str, ...]] = ("refine.",)
    padding: Padding = "reflect"
    features = low_level_features

    def __init__(
        self,
        backbone: str = "resnet50",
        specifier: Specifier = "clue",
        refine: Refine = "deconv",
        norm: Norm = "batch",
        width: Count = 64,
        refine_width: Count = 128,
        object_chunk: Count = 16,
    ) -> None:
        super().__init__()
        if specifier not in SPECIFIER_CHANNELS or refine not in ("deconv", "bilinear"):
            raise ValueError(f"unknown specifier '{specifier}' or refine '{refine}'")
        self.specifier = specifier
        self.object_chunk = object_chunk
        self.encoder = frame_encoder(backbone, norm, width, layers=4, dilated=True)
        self.mean = self.encoder.mean
        self.normalise = Normalise(self.mean, self.encoder.std)
        decoder = DeconvDecoder if refine == "deconv" else BilinearDecoder
        self.refine = decoder(self.encoder.channels, SPECIFIER_CHANNELS[specifier], refine_width)

    def begin(self, frame: Frame, masks: Masks) -> CRVOSState:
        """See `Segmenter.begin`. The first image is not used."""
        return CRVOSState(masks)

    def step(self, frame: Frame, state: CRVOSState) -> tuple[Tensor, CRVOSState]:
        """See `Segmenter.step`."""
        probs = state.masks.probs
        if probs.shape[1]:
            scores = self.decode(self.encode(frame.image), self.clue(probs))
            log_odds = scores[:, :, 1] - scores[:, :, 0]
        else:
            log_odds = probs
        logits = aggregate_min(log_odds, state.masks.slot_mask)
        return logits, CRVOSState(state.masks.with_probs(object_probabilities(logits)))

    def add(self, frame: Frame, masks: Masks, state: CRVOSState, known: Masks | None = None) -> CRVOSState:
        """See `Segmenter.add`."""
        return CRVOSState((known or state.masks).append(masks))

    def encode(self, image: Tensor) -> Pyramid:
        """Encode an image B 3 H W to the outputs of layers 1, 2 and 4, which the decoder uses."""
        layer1, layer2, _, layer4 = self.encoder(self.normalise(image))
        return Pyramid(layer1, layer2, layer4)

    def clue(self, probs: Tensor) -> Tensor:
        """Clue (section 2.2): background, object, row, column and radius at stride 16, B O 5 h w, of probs B O H W."""
        batch, objects, height, width = probs.shape
        h, w = height // self.stride, width // self.stride
        if self.specifier == "none":
            return probs.new_zeros(batch, objects, 0, h, w)
        coarse = F.avg_pool2d(probs.flatten(0, 1).unsqueeze(1), self.stride).view(batch, objects, 1, h, w)
        mask = torch.cat([1 - coarse, coarse], 2)
        if self.specifier == "mask":
            return mask
        row = coord_range(h, probs.device, probs.dtype).view(h, 1).expand(h, w)
        column = coord_range(w, probs.device, probs.dtype).expand(h, w)
        coordinates = torch.stack([row, column, (row**2 + column**2).sqrt()])
        return torch.cat([mask, coordinates.expand(batch, objects, 3, h, w)], 2)

    def decode(self, features: Pyramid, clue: Tensor) -> Tensor:
        """Decode features and clues B O C h w to scores B O 2 H W, background first."""
        shares = (
            self.refine.rm1.frame(features.f16),
            self.refine.rm2.frame(features.f8),
            self.refine.rm3.frame(features.f4),
        )

        def refine(part: Tensor) -> Tensor:
            scores: Tensor = self.refine(shares, part)
            return scores

        return in_chunks(refine, clue, self.object_chunk)


def _upsample(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
