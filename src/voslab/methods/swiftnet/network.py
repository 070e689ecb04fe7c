"""SwiftNet (Wang et al. 2021): a light encoder of masks, and a memory of the pixels that changed.

Shapes: B clips, O objects, N = B O, C channels. A frame is encoded once, as query and as memory alike; masks join its
features through a few convolutions, once per object.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from voslab.core import Frame, KeyInputs, Keys, Masks, State, state
from voslab.core.segmenter import Comparison, Padding
from voslab.methods.swiftnet.modules import ASPP, LightAggregationEncoder
from voslab.nn.aggregation import aggregate_product, object_probabilities
from voslab.nn.blocks import flatten_hw, in_chunks, unflatten_hw
from voslab.nn.decoders import STMDecoder
from voslab.nn.encoders import KeyValue, masks_and_others
from voslab.nn.key_projections import memory_proj, query_proj
from voslab.nn.normalise import Normalise
from voslab.nn.pixel_memory import PixelMemory, Policy
from voslab.nn.resnet import Norm, Pyramid, ResNet, low_level

Trigger = Literal["every_k", "variation"]


class Encoded(NamedTuple):
    """Features of a frame: c1 B C H/2 W/2 after its ReLU, and the layers' outputs."""

    c1: Tensor
    pyramid: Pyramid


@state
class SwiftNetState(State):
    """The memory, and the frame that enters it at the next step.

    Attributes:
        memory: keys and values up to the frame before `image`.
        image: B 3 H W.
        encoded: of `image`; None where it was not segmented.
        masks: of `image`: hard where they were given, else the aggregated probabilities.
        index: of `image`, counted from the frame in which the video began.
        due: by clip, whether a part of `image` stays in the memory.
        variation: B, accumulated since then where the trigger is `variation`.
        keys: the video's own key projections, where it has some.
    """

    memory: PixelMemory
    image: Tensor
    encoded: Encoded | None
    masks: Masks
    index: int
    due: list[bool]
    variation: Tensor
    keys: Keys | None = None


class Query(NamedTuple):
    """A frame as it asks: key B Ck h w, value B Cv h w."""

    encoded: Encoded
    key: Tensor
    value: Tensor


class SwiftNet(nn.Module):
    """The whole network; a `Segmenter`, `KeyMatching`.

    Args:
        backbone: to stride 16; the paper's are `resnet18` and `resnet50`.
        norm: normalisation of the encoder; `group` suits training from random initialisation.
        width: of the encoder; 64 is the published one.
        key_channels: compared; None: an eighth of the encoder's output, as published.
        value_channels: carried; None: half of the encoder's output, as published.
        decoder_width: 64 as published.
        centred: see `KeyValue`; suits training from random initialisation.
        trigger: when a part of a frame stays: `every_k` frames, or when enough has changed since the last time.
        memory_every: k; frames 0, k, 2k, …
        variation_threshold: changed share of the picture, summed over frames, that triggers an update.
        image_threshold: a pixel has changed when one of its channels did by more than this, in [0, 1];
        mask_threshold: or one of its objects' probabilities by more than this.
        memory_share: of a frame that stays in part: its positions least like the memory's.
        memory_previous: the previous frame is always there as a whole, until the next one is segmented.
        memory_bound: most columns that stay per object, in whole frames, at least 2; None: all.
        dropout: in training, before the decoder.
        object_chunk: so many objects are encoded and decoded at once; bounds memory, changes nothing else.

    Raises:
        ValueError: for an unknown trigger or a memory without room.
    """

    stride = 16
    padding: Padding = "zeros"
    comparison: Comparison = "dot"
    features = low_level
    stages: ClassVar[tuple[str, ...]] = ("encode", "memorise", "read", "decode")

    def __init__(
        self,
        backbone: str = "resnet18",
        norm: Norm = "batch",
        width: int = 64,
        key_channels: int | None = None,
        value_channels: int | None = None,
        decoder_width: int = 64,
        centred: bool = False,
        trigger: Trigger = "every_k",
        memory_every: int = 5,
        variation_threshold: float = 0.5,
        image_threshold: float = 0.1,
        mask_threshold: float = 0.5,
        memory_share: float = 0.1,
        memory_previous: bool = True,
        memory_bound: int | None = None,
        dropout: float = 0.5,
        object_chunk: int = 4,
    ) -> None:
        super().__init__()
        _check(trigger, memory_every, memory_share, memory_bound)
        self.trigger = trigger
        self.memory_every = memory_every
        self.thresholds = (variation_threshold, image_threshold, mask_threshold)
        self.policy = Policy(memory_share, memory_bound, memory_previous)
        self.object_chunk = object_chunk
        self.normalise = Normalise()
        self.encoder = ResNet(backbone, norm, width, layers=3)
        f4, f8, f16 = self.encoder.channels
        key, value = key_channels or f16 // 8, value_channels or f16 // 2
        self.reference = LightAggregationEncoder(width, f4, f8, f16)
        self.query = KeyValue(f16, key, value, centred)
        self.memory = KeyValue(f16, key, value, centred)
        if centred:
            with torch.no_grad():
                # Keys begin blind to masks: a query knows none.
                for channels in self.reference.reserved(f16):
                    self.query.key.weight[:, channels] = 0
        # What a position is remembered by begins as what it is asked for by.
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
            odds = self.decode(query, self.read(query, memory))
        else:
            odds = masks.probs
        logits = aggregate_product(odds, masks.slot_mask)
        masks = masks.with_probs(object_probabilities(logits))
        due, variation = self._due(state, frame.image, masks)
        return logits, SwiftNetState(memory, frame.image, encoded, masks, state.index + 1, due, variation, state.keys)

    def add(self, frame: Frame, masks: Masks, state: SwiftNetState) -> SwiftNetState:
        """See `Segmenter.add`. The memory of a new object begins with this frame."""
        memory = state.memory.extend(masks.probs.shape[1])
        return replace(state, memory=memory, masks=state.masks.append(masks))

    def key_layers(self) -> tuple[nn.Conv2d, ...]:
        """See `KeyMatching.key_layers`."""
        return self.query.key, self.memory.key

    def compare(self, state: SwiftNetState) -> tuple[KeyInputs, SwiftNetState]:
        """See `KeyMatching.compare`."""
        encoded = state.encoded or self._features(state.image)
        memory = self.memory.compared(self._joined(encoded, state.masks))
        compared = KeyInputs(self.query.compared(encoded.pyramid.f16), memory, state.masks, state.keys)
        return compared, replace(state, encoded=encoded)

    def with_keys(self, state: SwiftNetState, keys: Keys) -> SwiftNetState:
        """See `KeyMatching.with_keys`."""
        return replace(state, keys=keys)

    def encode(self, image: Tensor, keys: Keys | None = None) -> Query:
        """B 3 H W -> features, key and value."""
        encoded = self._features(image)
        return Query(encoded, *self.query(encoded.pyramid.f16, query_proj(keys)))

    def memorise(self, state: SwiftNetState) -> PixelMemory:
        """Light aggregation encoder: the frame that the state holds, with its masks, joins the memory."""
        if not state.memory.wants(state.due):
            return state.memory
        encoded = state.encoded or self._features(state.image)
        return state.memory.write(*self.remember(encoded, state.masks, state.keys), state.due)

    def remember(self, encoded: Encoded, masks: Masks, keys: Keys | None = None) -> tuple[Tensor, Tensor]:
        """A frame's features and its masks -> keys B O hw Ck, values B O hw Cv."""
        features = self._joined(encoded, masks)
        projected = self.memory(features.flatten(0, 1), memory_proj(keys))
        key, value = (torch.unflatten(flatten_hw(x), 0, features.shape[:2]) for x in projected)
        return key, value

    def read(self, query: Query, memory: PixelMemory) -> Tensor:
        """Memory read over chosen pixels and the previous frame: B O Cv h w."""
        return unflatten_hw(memory.read(flatten_hw(query.key)), query.key)

    def decode(self, query: Query, readout: Tensor) -> Tensor:
        """ASPP and decoder: readouts B O Cv h w -> log-odds B O H W."""
        context = self.aspp.share(query.value)
        share = self.decoder.share(None, query.encoded.pyramid)
        return in_chunks(lambda own: self.decoder(self.aspp(own, context), share)[:, 0], readout, self.object_chunk)

    def _features(self, image: Tensor) -> Encoded:
        c1 = self.encoder.relu(self.encoder.bn1(self.encoder.conv1(self.normalise(image))))
        return Encoded(c1, Pyramid(*self.encoder.layers_of(c1)))

    def _joined(self, encoded: Encoded, masks: Masks) -> Tensor:
        """A frame's features and masks -> B O C h w."""
        probs = masks_and_others(masks, clamp=True)
        return in_chunks(partial(self.reference, *encoded), probs, self.object_chunk)

    @torch.no_grad()
    def _due(self, before: SwiftNetState, image: Tensor, masks: Masks) -> tuple[list[bool], Tensor]:
        """Variation-aware trigger: whether a part of a new frame is to stay, and the variation accumulated then."""
        if self.trigger == "every_k":
            return [(before.index + 1) % self.memory_every == 0] * len(image), before.variation
        enough, image_threshold, mask_threshold = self.thresholds
        changed = (image - before.image).abs().amax(1) > image_threshold
        moved = (masks.probs - before.masks.probs).abs() * masks.slot_mask[:, :, None, None]
        changed |= (moved > mask_threshold).any(1)
        total = before.variation + changed.float().mean((1, 2))
        due = total >= enough
        return due.tolist(), total.masked_fill(due, 0)


def _check(trigger: str, every: int, share: float, bound: int | None) -> None:
    if trigger not in ("every_k", "variation"):
        raise ValueError(f"unknown trigger '{trigger}', choose from every_k, variation")
    if every < 1 or (bound is not None and bound < 2):
        raise ValueError(f"memory_every={every} must be at least 1, memory_bound={bound} at least 2")
    if not 0 < share <= 1:
        raise ValueError(f"memory_share={share} must be in (0, 1]")
