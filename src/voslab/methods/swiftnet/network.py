"""SwiftNet (Wang et al. 2021): a light mask encoder, and a memory of the pixels that changed.

Shapes: B clips, O objects, N = B O, C channels. A frame is encoded once, for query and memory. A few convolutions add
the masks to its features, once per object.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from voslab.core import Frame, KeyInputs, KeyMatching, Keys, Masks, State, state_dataclass
from voslab.core.parameters import Count
from voslab.core.segmenter import Comparison, Padding
from voslab.methods.swiftnet.modules import ASPP, LightAggregationEncoder
from voslab.nn.aggregation import aggregate_product, object_probabilities
from voslab.nn.backbone import Norm, Pyramid, low_level_features
from voslab.nn.blocks import flatten_hw, in_chunks, unflatten_hw
from voslab.nn.decoders import STMDecoder
from voslab.nn.encoders import KeyValue, frame_encoder, masks_with_others
from voslab.nn.key_projections import memory_proj, query_proj
from voslab.nn.normalise import Normalise
from voslab.nn.pixel_memory import PixelMemory, Policy

Trigger = Literal["every_k", "variation"]


class Encoded(NamedTuple):
    """Features of a frame: c1 B C H/2 W/2 after its ReLU, and the layers' outputs."""

    c1: Tensor
    pyramid: Pyramid


@state_dataclass
class SwiftNetState(State):
    """State of a video: the memory, and the newest frame, which enters the memory at the next step.

    Attributes:
        memory: keys and values of the frames before `image`.
        image: newest frame, B 3 H W.
        encoded: encoding of `image`; None for the first frame.
        masks: masks of `image`: the given ones, or the aggregated probabilities.
        index: index of `image`, counted from the first frame of the state.
        due: whether positions of `image` will be retained in the memory, per clip.
        given: whether masks of known objects were given for `image`; then all of its positions will be retained.
        variation: B, variation since the last update; used by the `variation` trigger.
        keys: key projections of the video; None: the network's own.
    """

    memory: PixelMemory
    image: Tensor
    encoded: Encoded | None
    masks: Masks
    index: int
    due: list[bool]
    variation: Tensor
    given: bool = False
    keys: Keys | None = None


class Query(NamedTuple):
    """Encoded query frame: key B Ck h w and value B Cv h w."""

    encoded: Encoded
    key: Tensor
    value: Tensor


class SwiftNet(KeyMatching[SwiftNetState]):
    """SwiftNet as a `KeyMatching` segmenter.

    Args:
        backbone: ResNet or EfficientNet-Lite of the encoder, to stride 16; `resnet18` and `resnet50` in the paper.
        norm: normalisation of the encoder; use `group` for training from random initialisation.
        width: width of the encoder; 64 as published.
        key_channels: key channels; None: an eighth of the encoder's output, as published.
        value_channels: value channels; None: half of the encoder's output, as published.
        decoder_width: width of the decoder; 64 as published.
        centred: see `KeyValue`; use it for training from random initialisation.
        trigger: update the memory `every_k` frames, or when the `variation` since the last update is large enough.
        memory_every: k; frames 0, k, 2k, … update the memory.
        variation_threshold: ratio of changed pixels, summed over frames, that triggers an update.
        image_threshold: minimum change of a colour channel, in [0, 1], of a changed pixel.
        mask_threshold: minimum change of an object's probability of a changed pixel.
        memory_share: ratio of the positions that an update retains: those least similar to the memory.
        memory_previous: whether all positions of the previous frame are in the memory.
        memory_bound: maximum number of retained positions per object in units of a frame, at least 2; None: none.
        memory_given: maximum number of frames with given masks, of which all positions are retained; of these
            `memory_bound` counts the first one only.
        dropout: dropout rate before the decoder.
        object_chunk: number of objects that are encoded and decoded at a time; bounds memory only.

    Raises:
        ValueError: if the trigger is unknown or a parameter of the memory is too small.
    """

    stride = 16
    padding: Padding = "zeros"
    comparison: Comparison = "dot"
    features = low_level_features
    stages: ClassVar[tuple[str, ...]] = ("encode", "memorise", "read", "decode")

    def __init__(
        self,
        backbone: str = "resnet18",
        norm: Norm = "batch",
        width: Count = 64,
        key_channels: Count | None = None,
        value_channels: Count | None = None,
        decoder_width: Count = 64,
        centred: bool = False,
        trigger: Trigger = "every_k",
        memory_every: Count = 5,
        variation_threshold: float = 0.5,
        image_threshold: float = 0.1,
        mask_threshold: float = 0.5,
        memory_share: float = 0.1,
        memory_previous: bool = True,
        memory_bound: int | None = None,
        memory_given: Count = 8,
        dropout: float = 0.5,
        object_chunk: Count = 4,
    ) -> None:
        super().__init__()
        _check(trigger, memory_every, memory_share, memory_bound, memory_given)
        self.trigger = trigger
        self.memory_every = memory_every
        self.thresholds = (variation_threshold, image_threshold, mask_threshold)
        self.policy = Policy(memory_share, memory_bound, memory_previous, memory_given)
        self.object_chunk = object_chunk
        self.encoder = frame_encoder(backbone, norm, width)
        self.mean = self.encoder.mean
        self.normalise = Normalise(self.mean, self.encoder.std)
        f4, f8, f16 = self.encoder.channels
        key, value = key_channels or f16 // 8, value_channels or f16 // 2
        self.reference = LightAggregationEncoder(self.encoder.conv1.out_channels, f4, f8, f16)
        self.query = KeyValue(f16, key, value, centred)
        self.memory = KeyValue(f16, key, value, centred)
        if centred:
            with torch.no_grad():
                # Keys start without the mask channels, which a query does not have.
                for channels in self.reference.reserved(f16):
                    self.query.key.weight[:, channels] = 0
        # Memory and query projections start equal.
        self.memory.load_state_dict(self.query.state_dict())
        self.aspp = ASPP(value, value, f16 // 2, dropout)
        self.decoder = STMDecoder(f16 // 2, 0, f8, f4, decoder_width, rectified=True)

    def begin(self, frame: Frame, masks: Masks) -> SwiftNetState:
        """See `Segmenter.begin`."""
        batch, objects = masks.slot_mask.shape
        memory = PixelMemory([], self.policy).extend(objects)
        nothing = frame.image.new_zeros(batch, dtype=torch.float32)
        return SwiftNetState(memory, frame.image, None, masks, 0, [True] * batch, nothing)

    def step(self, frame: Frame, state: SwiftNetState) -> tuple[Tensor, SwiftNetState]:
        """See `Segmenter.step`."""
        memory, masks, encoded = state.memory, state.masks, None
        if masks.probs.shape[1]:
            memory = self.memorise(state)
            query = self.encode(frame.image, state.keys)
            encoded = query.encoded
            log_odds = self.decode(query, self.read(query, memory))
        else:
            log_odds = masks.probs
        logits = aggregate_product(log_odds, masks.slot_mask)
        masks = masks.with_probs(object_probabilities(logits))
        due, variation = self._due(state, frame.image, masks)
        return logits, SwiftNetState(
            memory, frame.image, encoded, masks, state.index + 1, due, variation, keys=state.keys
        )

    def add(self, frame: Frame, masks: Masks, state: SwiftNetState, known: Masks | None = None) -> SwiftNetState:
        """See `Segmenter.add`. The memory of a new object begins with this frame."""
        memory = state.memory.extend(masks.probs.shape[1])
        masks = (known or state.masks).append(masks)
        return replace(state, memory=memory, masks=masks, given=known is not None)

    def key_layers(self) -> tuple[nn.Conv2d, ...]:
        """See `KeyMatching.key_layers`."""
        return self.query.key, self.memory.key

    def compare(self, state: SwiftNetState) -> tuple[KeyInputs, SwiftNetState]:
        """See `KeyMatching.compare`."""
        encoded = state.encoded or self._features(state.image)
        memory = self.memory.key_input(self._memory_features(encoded, state.masks))
        compared = KeyInputs(self.query.key_input(encoded.pyramid.f16), memory, state.masks, state.keys)
        return compared, replace(state, encoded=encoded)

    def with_keys(self, state: SwiftNetState, keys: Keys) -> SwiftNetState:
        """See `KeyMatching.with_keys`."""
        return replace(state, keys=keys)

    def held_features(self, state: SwiftNetState) -> Tensor | None:
        """See `HoldsFeatures`."""
        return None if state.encoded is None else state.encoded.pyramid.f4

    def encode(self, image: Tensor, keys: Keys | None = None) -> Query:
        """Encode an image B 3 H W to features, key and value."""
        encoded = self._features(image)
        return Query(encoded, *self.query(encoded.pyramid.f16, query_proj(keys)))

    def memorise(self, state: SwiftNetState) -> PixelMemory:
        """Light aggregation encoder: write the newest frame and its masks to the memory."""
        if not state.given and not state.memory.needs_write(state.due):
            return state.memory
        encoded = state.encoded or self._features(state.image)
        return state.memory.write(*self.encode_memory(encoded, state.masks, state.keys), state.due, state.given)

    def encode_memory(self, encoded: Encoded, masks: Masks, keys: Keys | None = None) -> tuple[Tensor, Tensor]:
        """Compute memory keys B O hw Ck and values B O hw Cv of an encoded frame and its masks."""
        features = self._memory_features(encoded, masks)
        projected = self.memory(features.flatten(0, 1), memory_proj(keys))
        key, value = (torch.unflatten(flatten_hw(x), 0, features.shape[:2]) for x in projected)
        return key, value

    def read(self, query: Query, memory: PixelMemory) -> Tensor:
        """Read the retained positions and the previous frame: compute readouts B O Cv h w."""
        return unflatten_hw(memory.read(flatten_hw(query.key)), query.key)

    def decode(self, query: Query, readout: Tensor) -> Tensor:
        """ASPP and decoder: readouts B O Cv h w -> log-odds B O H W."""
        context = self.aspp.forward_shared(query.value)
        shared = self.decoder.forward_shared(None, query.encoded.pyramid)
        return in_chunks(lambda part: self.decoder(self.aspp(part, context), shared)[:, 0], readout, self.object_chunk)

    def _features(self, image: Tensor) -> Encoded:
        c1 = self.encoder.relu(self.encoder.bn1(self.encoder.conv1(self.normalise(image))))
        return Encoded(c1, Pyramid(*self.encoder.forward_layers(c1)))

    def _memory_features(self, encoded: Encoded, masks: Masks) -> Tensor:
        """Compute the memory features B O C h w of an encoded frame and its masks."""
        probs = masks_with_others(masks, clamp=True)
        return in_chunks(partial(self.reference, *encoded), probs, self.object_chunk)

    @torch.no_grad()
    def _due(self, before: SwiftNetState, image: Tensor, masks: Masks) -> tuple[list[bool], Tensor]:
        """Variation-aware trigger: whether a new frame updates the memory, per clip, and the accumulated variation."""
        if self.trigger == "every_k":
            return [(before.index + 1) % self.memory_every == 0] * len(image), before.variation
        enough, image_threshold, mask_threshold = self.thresholds
        changed = (image - before.image).abs().amax(1) > image_threshold
        moved = (masks.probs - before.masks.probs).abs() * masks.slot_mask[:, :, None, None]
        changed |= (moved > mask_threshold).any(1)
        total = before.variation + changed.float().mean((1, 2))
        due = total >= enough
        return due.tolist(), total.masked_fill(due, 0)


def _check(trigger: str, every: int, share: float, bound: int | None, given: int) -> None:
    if trigger not in ("every_k", "variation"):
        raise ValueError(f"unknown trigger '{trigger}', choose from every_k, variation")
    if min(every, given) < 1 or (bound is not None and bound < 2):
        raise ValueError(
            f"memory_every={every}, memory_given={given}, memory_bound={bound}: must be at least 1, 1 and 2"
        )
    if not 0 < share <= 1:
        raise ValueError(f"memory_share={share} must be in (0, 1]")
