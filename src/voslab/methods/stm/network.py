"""STM (Oh et al. 2019): every position of the query frame reads a space-time memory of keys and values.

Shapes: B clips, O objects, N = B O, C channels. The query encoder runs once per frame. The memory encoder runs once per
object when a frame is memorised.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from voslab.core import Frame, KeyInputs, KeyMatching, Keys, Masks, State, state_dataclass
from voslab.core.parameters import Count
from voslab.core.segmenter import Comparison, Padding
from voslab.nn.aggregation import aggregate_product, object_probabilities
from voslab.nn.backbone import Norm, Pyramid, low_level_features
from voslab.nn.blocks import flatten_hw, in_chunks, unflatten_hw
from voslab.nn.decoders import STMDecoder
from voslab.nn.encoders import KeyValue, frame_encoder, mask_encoder, masks_with_others
from voslab.nn.key_projections import memory_proj, query_proj
from voslab.nn.memory import DenseMemory, check_policy
from voslab.nn.normalise import Normalise


@state_dataclass
class STMState(State):
    """State of a video: the memory, and the newest frame, which enters the memory at the next step.

    Attributes:
        memory: keys and values of the frames before `image`.
        image: newest frame, B 3 H W.
        masks: masks of `image`: the given ones, or the aggregated probabilities.
        index: index of `image`, counted from the first frame of the state.
        given: whether masks of known objects were given for `image`.
        keys: key projections of the video; None: the network's own.
    """

    memory: DenseMemory
    image: Tensor
    masks: Masks
    index: int
    given: bool = False
    keys: Keys | None = None


class Query(NamedTuple):
    """Output of the query encoder: features, key B Ck h w and value B Cv h w."""

    features: Pyramid
    key: Tensor
    value: Tensor


class STM(KeyMatching[STMState]):
    """STM as a `KeyMatching` segmenter.

    Args:
        backbone: ResNet or EfficientNet-Lite of both encoders, to stride 16; `resnet50` in the paper.
        norm: normalisation of the encoders; use `group` for training from random initialisation.
        width: width of the encoders; 64 as published.
        key_channels: key channels; 128 as published.
        value_channels: value channels; 512 as published.
        decoder_width: width of the decoder; 256 as published.
        centred: see `KeyValue`; use it for training from random initialisation.
        memory_every: k; frames 0, k, 2k, … are retained in the memory.
        memory_previous: whether the previous frame is always in the memory.
        memory_bound: maximum number of retained frames, at least 2: the first and the newest others; None: no maximum.
        memory_given: maximum number of frames with given masks; of these `memory_bound` counts the first one only.
        top_k: number of memory positions per read; None: all, as published.
        object_chunk: number of objects that are encoded and decoded at a time; bounds memory only.

    Raises:
        ValueError: if a parameter of the memory is too small.
    """

    stride = 16
    padding: Padding = "zeros"
    comparison: Comparison = "dot"
    features = low_level_features
    stages: ClassVar[tuple[str, ...]] = ("encode", "memorise", "read", "decode")

    def __init__(
        self,
        backbone: str = "resnet50",
        norm: Norm = "batch",
        width: Count = 64,
        key_channels: Count = 128,
        value_channels: Count = 512,
        decoder_width: Count = 256,
        centred: bool = False,
        memory_every: Count = 5,
        memory_previous: bool = True,
        memory_bound: int | None = None,
        memory_given: Count = 8,
        top_k: int | None = None,
        object_chunk: Count = 4,
    ) -> None:
        super().__init__()
        check_policy(memory_every, memory_bound, top_k, memory_given)
        self.memory_every = memory_every
        self.memory_previous = memory_previous
        self.memory_bound = memory_bound
        self.memory_given = memory_given
        self.top_k = top_k
        self.object_chunk = object_chunk
        self.encoder = frame_encoder(backbone, norm, width)
        self.mean = self.encoder.mean
        self.normalise = Normalise(self.mean, self.encoder.std)
        self.mask_encoder = mask_encoder(backbone, norm, width)
        f4, f8, f16 = self.encoder.channels
        self.query = KeyValue(f16, key_channels, value_channels, centred)
        self.memory = KeyValue(f16, key_channels, value_channels, centred)
        # Memory and query weights start equal, as they do if both encoders are loaded from one file.
        self.mask_encoder.load_state_dict(self.encoder.state_dict(), strict=False)
        self.memory.load_state_dict(self.query.state_dict())
        self.decoder = STMDecoder(value_channels, value_channels, f8, f4, decoder_width)

    def begin(self, frame: Frame, masks: Masks) -> STMState:
        """See `Segmenter.begin`."""
        memory = DenseMemory([], self.memory_bound, self.memory_previous, self.memory_given).extend(
            masks.probs.shape[1]
        )
        return STMState(memory, frame.image, masks, 0)

    def step(self, frame: Frame, state: STMState) -> tuple[Tensor, STMState]:
        """See `Segmenter.step`."""
        memory, masks = state.memory, state.masks
        if masks.probs.shape[1]:
            memory = self.memorise(state)
            query = self.encode(frame.image, state.keys)
            log_odds = self.decode(query, self.read(query, memory))
        else:
            log_odds = masks.probs
        logits = aggregate_product(log_odds, masks.slot_mask)
        masks = masks.with_probs(object_probabilities(logits))
        return logits, STMState(memory, frame.image, masks, state.index + 1, keys=state.keys)

    def add(self, frame: Frame, masks: Masks, state: STMState, known: Masks | None = None) -> STMState:
        """See `Segmenter.add`. The memory of a new object begins with this frame."""
        memory = state.memory.extend(masks.probs.shape[1])
        masks = (known or state.masks).append(masks)
        return replace(state, memory=memory, masks=masks, given=known is not None)

    def key_layers(self) -> tuple[nn.Conv2d, ...]:
        """See `KeyMatching.key_layers`."""
        return self.query.key, self.memory.key

    def compare(self, state: STMState) -> tuple[KeyInputs, STMState]:
        """See `KeyMatching.compare`. The state keeps no memory features: the masks may still change."""
        query = self.query.key_input(self.encoder(self.normalise(state.image))[-1])
        memory = self.memory.key_input(self._memory_features(state.image, state.masks))
        return KeyInputs(query, memory, state.masks, state.keys), state

    def with_keys(self, state: STMState, keys: Keys) -> STMState:
        """See `KeyMatching.with_keys`."""
        return replace(state, keys=keys)

    def encode(self, image: Tensor, keys: Keys | None = None) -> Query:
        """Query encoder (section 3.1): encode an image B 3 H W."""
        features = Pyramid(*self.encoder(self.normalise(image)))
        return Query(features, *self.query(features.f16, query_proj(keys)))

    def memorise(self, state: STMState) -> DenseMemory:
        """Memory encoder (section 3.1): write the newest frame and its masks to the memory."""
        stay = state.given or state.index % self.memory_every == 0
        if not state.memory.needs_write(stay):
            return state.memory
        return state.memory.write(*self.encode_memory(state.image, state.masks, state.keys), stay, state.given)

    def encode_memory(self, image: Tensor, masks: Masks, keys: Keys | None = None) -> tuple[Tensor, Tensor]:
        """Compute memory keys B O hw Ck and values B O hw Cv of an image B 3 H W and its masks."""
        features = self._memory_features(image, masks)
        projected = self.memory(features.flatten(0, 1), memory_proj(keys))
        key, value = (torch.unflatten(flatten_hw(x), 0, features.shape[:2]) for x in projected)
        return key, value

    def read(self, query: Query, memory: DenseMemory) -> Tensor:
        """Space-time memory read (section 3.2): compute readouts B O Cv h w."""
        return unflatten_hw(memory.read(flatten_hw(query.key), self.top_k), query.key)

    def decode(self, query: Query, readout: Tensor) -> Tensor:
        """Decoder (section 3.3): readouts B O Cv h w -> log-odds B O H W."""
        shared = self.decoder.forward_shared(query.value, query.features)
        return in_chunks(lambda part: self.decoder(part, shared)[:, 0], readout, self.object_chunk)

    def _memory_features(self, image: Tensor, masks: Masks) -> Tensor:
        """Compute the memory encoder's features B O C h w of an image and its masks."""
        stem = self.mask_encoder.encode_image(image)
        probs = masks_with_others(masks, clamp=True)
        return in_chunks(partial(self.mask_encoder.encode, stem), probs, self.object_chunk)
