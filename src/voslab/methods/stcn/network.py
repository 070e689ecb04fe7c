"""STCN (Cheng et al. 2021): keys do not depend on masks, so all objects share one affinity by L2 distance.

Shapes: B clips, O objects, N = B O, C channels. A frame is encoded once: its query key is also its memory key. Memory
values depend on the masks and are computed once per object when a frame is memorised.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from voslab.core import Frame, KeyInputs, KeyMatching, Keys, Masks, State, state_dataclass
from voslab.core.segmenter import Comparison, Padding
from voslab.nn.aggregation import aggregate_product, object_probabilities
from voslab.nn.blocks import FeatureFusion, flatten_hw, in_chunks, unflatten_hw
from voslab.nn.decoders import STCNDecoder
from voslab.nn.encoders import MaskEncoder, masks_with_others
from voslab.nn.key_projections import memory_key, memory_proj, project, query_proj
from voslab.nn.memory import DenseMemory, check_policy
from voslab.nn.normalise import Normalise
from voslab.nn.resnet import Norm, Pyramid, ResNet, low_level_features


class EncodedFrame(NamedTuple):
    """Parts of a frame's encoding that are used when it is memorised: memory key B Ck h w, feature B C h w."""

    key: Tensor
    f16: Tensor


@state_dataclass
class STCNState(State):
    """State of a video: the memory, and the newest frame, which enters the memory at the next step.

    Attributes:
        memory: keys and values of the frames before `image`.
        image: newest frame, B 3 H W.
        encoded: encoding of `image`; None for the first frame.
        masks: masks of `image`, after aggregation.
        index: index of `image`, counted from the first frame of the state.
        last: index of the last frame that was retained in the memory; None: retain `image`.
        keys: key projections of the video; None: the network's own.
    """

    memory: DenseMemory
    image: Tensor
    encoded: EncodedFrame | None
    masks: Masks
    index: int = 0
    last: int | None = None
    keys: Keys | None = None


class Query(NamedTuple):
    """Output of the key encoder: features, key B Ck h w, and `thin` B Cv h w for the decoder."""

    features: Pyramid
    key: Tensor
    thin: Tensor


class STCN(KeyMatching[STCNState]):
    """STCN as a `KeyMatching` segmenter.

    Args:
        backbone: ResNet of the key encoder, to stride 16; `resnet50` in the paper.
        mask_backbone: ResNet of the value encoder; `resnet18` in the paper.
        norm: normalisation of the encoders; use `group` for training from random initialisation.
        width: width of the encoders; 64 as published.
        key_channels: key channels; 64 as published.
        value_channels: value channels; 512 as published.
        decoder_width: width of the decoder; 256 as published.
        memory_every: interval of retained frames; frames with given masks are always retained. In training all frames
            are retained.
        memory_previous: whether the previous frame is always in the memory.
        memory_bound: maximum number of retained frames, at least 2: the first and the newest others; None: no maximum.
        top_k: number of memory positions per read outside of training; None: all.
        object_chunk: number of objects that are encoded and decoded at a time; bounds memory only.

    Raises:
        ValueError: if a parameter of the memory is too small.
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
        width: int = 64,
        key_channels: int = 64,
        value_channels: int = 512,
        decoder_width: int = 256,
        memory_every: int = 5,
        memory_previous: bool = False,
        memory_bound: int | None = None,
        top_k: int | None = 20,
        object_chunk: int = 4,
    ) -> None:
        super().__init__()
        check_policy(memory_every, memory_bound, top_k)
        self.memory_every = memory_every
        self.memory_previous = memory_previous
        self.memory_bound = memory_bound
        self.top_k = top_k
        self.object_chunk = object_chunk
        self.normalise = Normalise()
        self.encoder = ResNet(backbone, norm, width, layers=3)
        self.mask_encoder = MaskEncoder(mask_backbone, norm, width, bias=True)
        f4, f8, f16 = self.encoder.channels
        self.key = nn.Conv2d(f16, key_channels, 3, padding=1)
        self.thin = nn.Conv2d(f16, value_channels, 3, padding=1)
        self.fuser = FeatureFusion(self.mask_encoder.channels[-1], f16, value_channels)
        self.decoder = STCNDecoder(value_channels, value_channels, f8, f4, decoder_width)
        nn.init.orthogonal_(self.key.weight)
        assert self.key.bias is not None
        nn.init.zeros_(self.key.bias)

    def begin(self, frame: Frame, masks: Masks) -> STCNState:
        """See `Segmenter.begin`."""
        memory = DenseMemory([], self.memory_bound, self.memory_previous).extend(masks.probs.shape[1])
        return STCNState(memory, frame.image, None, _aggregated(masks))

    def step(self, frame: Frame, state: STCNState) -> tuple[Tensor, STCNState]:
        """See `Segmenter.step`."""
        memory, masks, last, encoded = state.memory, state.masks, state.last, None
        if masks.probs.shape[1]:
            memory = self.memorise(state)
            last = state.index if self._is_memory_frame(state) else last
            query = self.encode(frame.image, state.keys)
            f16 = query.features.f16
            encoded = EncodedFrame(memory_key(self.key, f16, query.key, state.keys), f16)
            log_odds = self.decode(query, self.read(query, memory))
        else:
            log_odds = masks.probs
        logits = aggregate_product(log_odds, masks.slot_mask)
        masks = masks.with_probs(object_probabilities(logits))
        return logits, STCNState(memory, frame.image, encoded, masks, state.index + 1, last, state.keys)

    def add(self, frame: Frame, masks: Masks, state: STCNState) -> STCNState:
        """See `Segmenter.add`. The memory of a new object begins with this frame."""
        memory = state.memory.extend(masks.probs.shape[1])
        return replace(state, memory=memory, masks=_aggregated(state.masks.append(masks)), last=None)

    def key_layers(self) -> tuple[nn.Conv2d, ...]:
        """See `KeyMatching.key_layers`: one projection for both."""
        return (self.key,)

    def compare(self, state: STCNState) -> tuple[KeyInputs, STCNState]:
        """See `KeyMatching.compare`. The memory input is the frame itself, for all objects."""
        encoded = state.encoded or self._encode_frame(state)
        return KeyInputs(encoded.f16, encoded.f16.unsqueeze(1), state.masks, state.keys), replace(
            state, encoded=encoded
        )

    def with_keys(self, state: STCNState, keys: Keys) -> STCNState:
        """See `KeyMatching.with_keys`."""
        encoded = state.encoded
        if encoded is not None:
            encoded = EncodedFrame(project(self.key, encoded.f16, keys.stored), encoded.f16)
        return replace(state, keys=keys, encoded=encoded)

    def encode(self, image: Tensor, keys: Keys | None = None) -> Query:
        """Key encoder (section 3.1): encode an image B 3 H W."""
        features = Pyramid(*self.encoder(self.normalise(image)))
        return Query(features, project(self.key, features.f16, query_proj(keys)), self.thin(features.f16))

    def memorise(self, state: STCNState) -> DenseMemory:
        """Value encoder (section 3.1): write the newest frame and its masks to the memory."""
        stay = self._is_memory_frame(state)
        if not state.memory.needs_write(stay):
            return state.memory
        key, f16 = state.encoded or self._encode_frame(state)
        return state.memory.write(flatten_hw(key).unsqueeze(1), self.value(state.image, f16, state.masks), stay)

    def value(self, image: Tensor, f16: Tensor, masks: Masks) -> Tensor:
        """Compute memory values B O hw Cv of an image B 3 H W, its feature B C h w and its masks."""
        stem = self.mask_encoder.conv1(self.normalise(image))
        shared = self.fuser.forward_shared(f16)

        def fuse(masks: Tensor) -> Tensor:
            return flatten_hw(self.fuser(self.mask_encoder.encode(stem, masks), shared))

        return in_chunks(fuse, masks_with_others(masks, clamp=False), self.object_chunk)

    def read(self, query: Query, memory: DenseMemory) -> Tensor:
        """Memory read by L2 similarity (sections 3.2, 4): compute readouts B O Cv h w."""
        top_k = None if self.training else self.top_k
        return unflatten_hw(memory.read(flatten_hw(query.key), top_k, "l2"), query.key)

    def decode(self, query: Query, readout: Tensor) -> Tensor:
        """Decoder (section 3.2): readouts B O Cv h w -> log-odds B O H W."""
        shared = self.decoder.forward_shared(query.thin, query.features)
        return in_chunks(lambda part: self.decoder(part, shared)[:, 0], readout, self.object_chunk)

    def _is_memory_frame(self, state: STCNState) -> bool:
        return self.training or state.last is None or state.index - state.last >= self.memory_every

    def _encode_frame(self, state: STCNState) -> EncodedFrame:
        f16 = self.encoder(self.normalise(state.image))[-1]
        return EncodedFrame(project(self.key, f16, memory_proj(state.keys)), f16)


def _aggregated(masks: Masks) -> Masks:
    """Aggregate given masks like predicted ones: 0 and 1 become 1e-7 and 1 - 1e-7."""
    return masks.with_probs(object_probabilities(aggregate_product(masks.probs.logit(), masks.slot_mask)))
