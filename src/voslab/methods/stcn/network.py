"""STCN (Cheng et al. 2021): keys do not depend on masks, so all objects share one affinity by L2 distance.

Shapes: B clips, O objects, N = B O, C channels. A frame is encoded once: its query key is also its memory key. Memory
values depend on the masks and are computed once per object when a frame is memorised.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import Frame, KeyInputs, KeyMatching, Keys, Masks
from voslab.core.parameters import Count, Range
from voslab.core.segmenter import Comparison, Padding
from voslab.methods.stcn.state import EncodedFrame, Query, STCNState
from voslab.nn.aggregation import LIMIT, aggregate_masks, aggregate_product, object_probabilities
from voslab.nn.backbone import Norm, Pyramid, low_level_features
from voslab.nn.blocks import FeatureFusion, flatten_hw, in_chunks, unflatten_hw
from voslab.nn.boxes import Box, mask_box
from voslab.nn.decoders import STCNDecoder
from voslab.nn.encoders import LightMaskEncoder, MaskStem, frame_encoder, mask_encoder, masks_with_others
from voslab.nn.key_projections import memory_key, memory_proj, project, query_proj
from voslab.nn.memory import DenseMemory, check_policy
from voslab.nn.normalise import Normalise

LIGHT = "light"
"""`mask_backbone` of a value encoder that reuses the frame's features."""

BOX_EDGES = 4
"""Edges of the boxes of `region` lie at multiples of this number of cells."""


class STCN(KeyMatching[STCNState]):
    """STCN as a `KeyMatching` segmenter.

    Args:
        backbone: ResNet or EfficientNet-Lite of the key encoder, to stride 16; `resnet50` in the paper.
        mask_backbone: network of the value encoder, `resnet18` in the paper; `light` for a `LightMaskEncoder`, whose
            features are fused with 1x1 convolutions.
        norm: normalisation of the encoders; use `group` for training from random initialisation.
        width: width of the ResNets and of a light value encoder; 64 as published.
        key_channels: key channels; 64 as published.
        value_channels: value channels; 512 as published.
        decoder_width: width of the decoder; 256 as published.
        memory_every: interval of retained frames; frames with given masks are always retained. In training all frames
            are retained.
        memory_previous: whether the previous frame is always in the memory.
        memory_bound: maximum number of retained frames, at least 2: the first and the newest others; None: no maximum.
        memory_given: maximum number of frames with given masks; of these `memory_bound` counts the first one only.
        top_k: number of memory positions per read outside of training; None: all.
        previous_mask: whether the decoder also sees the previous frame's masks at stride 16, as CRVOS's does.
        region: cells of stride 16 around the previous masks. In evaluation, only this box is read and decoded, and
            everything else is background; of frames that are not retained, only a box with twice this margin is encoded
            and memorised. While an object has no mask, the whole frame is processed. None: always the whole frame.
        object_chunk: number of objects that are encoded and decoded at a time; bounds memory only.

    Raises:
        ValueError: if a parameter of the memory or the region is too small.
    """

    stride = 16
    padding: Padding = "mean"
    comparison: Comparison = "l2"
    features = low_level_features
    stages: ClassVar[tuple[str, ...]] = ("encode", "memorise", "read", "decode")

    def __init__(
        self,
        backbone: str = "resnet50",
        mask_backbone: str = "resnet18",
        norm: Norm = "batch",
        width: Count = 64,
        key_channels: Count = 64,
        value_channels: Count = 512,
        decoder_width: Count = 256,
        memory_every: Count = 5,
        memory_previous: bool = False,
        memory_bound: int | None = None,
        memory_given: Count = 8,
        top_k: int | None = 20,
        previous_mask: bool = False,
        region: Annotated[int, Range(0, 1024)] | None = None,
        object_chunk: Count = 4,
    ) -> None:
        super().__init__()
        check_policy(memory_every, memory_bound, top_k, memory_given)
        if region is not None and region < 0:
            raise ValueError(f"region={region}: must not be negative")
        self.memory_every = memory_every
        self.memory_previous = memory_previous
        self.memory_bound = memory_bound
        self.memory_given = memory_given
        self.top_k = top_k
        self.object_chunk = object_chunk
        self.previous_mask = previous_mask
        self.region = region
        self.encoder = frame_encoder(backbone, norm, width)
        self.mean = self.encoder.mean
        self.normalise = Normalise(self.mean, self.encoder.std)
        self.mask_encoder: LightMaskEncoder | MaskStem
        if mask_backbone == LIGHT:
            self.mask_encoder = LightMaskEncoder(self.encoder.channels, width)
        else:
            self.mask_encoder = mask_encoder(mask_backbone, norm, width, bias=True)
        f4, f8, f16 = self.encoder.channels
        self.key = nn.Conv2d(f16, key_channels, 3, padding=1)
        self.thin = nn.Conv2d(f16, value_channels, 3, padding=1)
        kernel = 1 if isinstance(self.mask_encoder, LightMaskEncoder) else 3
        self.fuser = FeatureFusion(self.mask_encoder.channels[-1], f16, value_channels, kernel)
        readout = value_channels + (2 if previous_mask else 0)
        self.decoder = STCNDecoder(readout, value_channels, f8, f4, decoder_width)
        nn.init.orthogonal_(self.key.weight)
        assert self.key.bias is not None
        nn.init.zeros_(self.key.bias)

    def begin(self, frame: Frame, masks: Masks) -> STCNState:
        """See `Segmenter.begin`."""
        memory = DenseMemory([], self.memory_bound, self.memory_previous, self.memory_given).extend(
            masks.probs.shape[1]
        )
        return STCNState(memory, frame.image, None, aggregate_masks(masks))

    def step(self, frame: Frame, state: STCNState) -> tuple[Tensor, STCNState]:
        """See `Segmenter.step`."""
        memory, masks, last, encoded = state.memory, state.masks, state.last, None
        if masks.probs.shape[1]:
            memory = self.memorise(state)
            last = state.index if self._is_memory_frame(state.index, last) else last
            box, around = self._boxes(masks)
            part = None if self._is_memory_frame(state.index + 1, last) else around
            query = self.encode(frame.image if part is None else part.cut(frame.image, self.stride), state.keys)
            key = memory_key(self.key, query.features.f16, query.key, state.keys)
            encoded = EncodedFrame(key, self._value_inputs(query.features), part)
            if box is not None:
                query = query.cut(box if part is None else box.inside(part))
            logits = self.look(query, memory, masks, box)
        else:
            logits = aggregate_product(masks.probs, masks.slot_mask)
        masks = masks.with_probs(object_probabilities(logits))
        return logits, STCNState(memory, frame.image, encoded, masks, state.index + 1, last, keys=state.keys)

    def add(self, frame: Frame, masks: Masks, state: STCNState, known: Masks | None = None) -> STCNState:
        """See `Segmenter.add`. The memory of a new object begins with this frame."""
        memory = state.memory.extend(masks.probs.shape[1])
        masks = aggregate_masks((known or state.masks).append(masks))
        encoded = _whole(state.encoded)
        return replace(state, memory=memory, encoded=encoded, masks=masks, last=None, given=known is not None)

    def key_layers(self) -> tuple[nn.Conv2d, ...]:
        """See `KeyMatching.key_layers`: one projection for both."""
        return (self.key,)

    def compare(self, state: STCNState) -> tuple[KeyInputs, STCNState]:
        """See `KeyMatching.compare`. The memory input is the frame itself, for all objects."""
        encoded = _whole(state.encoded) or self._encode_frame(state)
        return KeyInputs(encoded.f16, encoded.f16.unsqueeze(1), state.masks, state.keys), replace(
            state, encoded=encoded
        )

    def with_keys(self, state: STCNState, keys: Keys) -> STCNState:
        """See `KeyMatching.with_keys`."""
        encoded = state.encoded
        if encoded is not None:
            encoded = encoded._replace(key=project(self.key, encoded.f16, keys.stored))
        return replace(state, keys=keys, encoded=encoded)

    def held_features(self, state: STCNState) -> Tensor | None:
        """See `HoldsFeatures`: a light value encoder reuses all features of the frame."""
        encoded = _whole(state.encoded)
        light = isinstance(self.mask_encoder, LightMaskEncoder)
        return encoded.features[0] if light and encoded is not None else None

    def encode(self, image: Tensor, keys: Keys | None = None) -> Query:
        """Key encoder (section 3.1): encode an image B 3 H W."""
        features = Pyramid(*self.encoder(self.normalise(image)))
        return Query(features, project(self.key, features.f16, query_proj(keys)), self.thin(features.f16))

    def memorise(self, state: STCNState) -> DenseMemory:
        """Value encoder (section 3.1): write the newest frame, as far as encoded, and its masks to the memory."""
        stay = self._is_memory_frame(state.index, state.last)
        if not state.memory.needs_write(stay):
            return state.memory
        key, features, box = state.encoded or self._encode_frame(state)
        image, masks = state.image, state.masks
        if box is not None:
            image, masks = box.cut(image, self.stride), self._near(masks, box)
        value = self.value(image, features, masks)
        return state.memory.write(flatten_hw(key).unsqueeze(1), value, stay, state.given)

    def value(self, image: Tensor, features: tuple[Tensor, ...], masks: Masks) -> Tensor:
        """Compute memory values B O hw Cv of an image B 3 H W, features of it (see `EncodedFrame`) and its masks."""
        encoder = self.mask_encoder
        shared = self.fuser.forward_shared(features[-1])
        if isinstance(encoder, LightMaskEncoder):
            encode = partial(encoder.encode, encoder.forward_shared(Pyramid(*features)))
        else:
            encode = partial(encoder.encode, encoder.encode_image(image))

        def fuse(masks: Tensor) -> Tensor:
            return flatten_hw(self.fuser(encode(masks), shared))

        return in_chunks(fuse, masks_with_others(masks, clamp=False), self.object_chunk)

    def look(self, query: Query, memory: DenseMemory, masks: Masks, box: Box | None = None) -> Tensor:
        """Read, decode and aggregate: logits B (O+1) H W; background outside of `box` if the query is of a box.

        `masks` are those of the previous frame.
        """
        near = masks if box is None else self._near(masks, box)
        log_odds = self.decode(query, self.join_masks(self.read(query, memory), near))
        logits = aggregate_product(log_odds, masks.slot_mask)
        if box is None:
            return logits
        nothing = aggregate_product(torch.full_like(masks.probs[..., :1, :1], -LIMIT), masks.slot_mask)
        return box.paste(logits, nothing.repeat(1, 1, *masks.probs.shape[-2:]), self.stride)

    def read(self, query: Query, memory: DenseMemory) -> Tensor:
        """Memory read by L2 similarity (sections 3.2, 4): compute readouts B O Cv h w."""
        top_k = None if self.training else self.top_k
        return unflatten_hw(memory.read(flatten_hw(query.key), top_k, "l2"), query.key)

    def join_masks(self, readout: Tensor, masks: Masks) -> Tensor:
        """Append the previous frame's masks to readouts B O Cv h w, if the decoder sees them: B O Cv+2 h w."""
        if not self.previous_mask:
            return readout
        coarse = F.avg_pool2d(masks_with_others(masks, clamp=False).flatten(0, 1), self.stride)
        return torch.cat([readout, torch.unflatten(coarse, 0, readout.shape[:2])], 2)

    def decode(self, query: Query, readout: Tensor) -> Tensor:
        """Decoder (section 3.2): the output of `join_masks` -> log-odds B O H W."""
        shared = self.decoder.forward_shared(query.thin, query.features)
        return in_chunks(lambda part: self.decoder(part, shared)[:, 0], readout, self.object_chunk)

    def _is_memory_frame(self, index: int, last: int | None) -> bool:
        return self.training or last is None or index - last >= self.memory_every

    def _boxes(self, masks: Masks) -> tuple[Box | None, Box | None]:
        """Return the cells at stride 16 to decode, and those to memorise, near the previous masks; None: all cells."""
        if self.training or self.region is None:
            return None, None
        shown = (F.max_pool2d(masks.probs, self.stride) > 0.5) & masks.slot_mask[:, :, None, None]
        lost = masks.slot_mask & ~shown.flatten(2).any(2)
        smallest = None if lost.any() else mask_box(shown, 0)
        if smallest is None:
            return None, None
        grid = shown.shape[2], shown.shape[3]
        box, around = (smallest.enlarged(margin, grid, BOX_EDGES) for margin in (self.region, 2 * self.region))
        return box, around

    def _near(self, masks: Masks, box: Box) -> Masks:
        return masks.with_probs(box.cut(masks.probs, self.stride))

    def _encode_frame(self, state: STCNState) -> EncodedFrame:
        features = Pyramid(*self.encoder(self.normalise(state.image)))
        key = project(self.key, features.f16, memory_proj(state.keys))
        return EncodedFrame(key, self._value_inputs(features))

    def _value_inputs(self, features: Pyramid) -> tuple[Tensor, ...]:
        return tuple(features) if isinstance(self.mask_encoder, LightMaskEncoder) else (features.f16,)


def _whole(encoded: EncodedFrame | None) -> EncodedFrame | None:
    """Return the encoding of a frame, unless it is of a part of it."""
    return None if encoded is None or encoded.box is not None else encoded
