"""STCN (Cheng et al. 2021): keys from frames alone, so that one affinity by distance serves every object.

Shapes: B clips, O objects, N = B O, C channels. A frame is encoded once: the key it is asked with is the key it is
remembered by. Only its values see the masks, and so are computed once per object, when it is memorised.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from voslab.core import Frame, KeyInputs, Keys, Masks, State, state
from voslab.core.segmenter import Comparison, Padding
from voslab.nn.aggregation import aggregate_product, object_probabilities
from voslab.nn.blocks import FeatureFusion, flatten_hw, in_chunks, unflatten_hw
from voslab.nn.decoders import STCNDecoder
from voslab.nn.encoders import MaskEncoder, masks_and_others
from voslab.nn.key_projections import memory_key, memory_proj, project, query_proj
from voslab.nn.memory import DenseMemory, check_policy
from voslab.nn.normalise import Normalise
from voslab.nn.resnet import Norm, Pyramid, ResNet, low_level


class Remembered(NamedTuple):
    """What memorising a frame takes over from its encoding: key B Ck h w, feature B C h w."""

    key: Tensor
    f16: Tensor


@state
class STCNState(State):
    """The memory, and the frame that enters it at the next step.

    Attributes:
        memory: keys and values up to the frame before `image`.
        image: B 3 H W.
        encoded: of `image`; None where it was not segmented.
        masks: of `image`, after aggregation.
        index: of `image`, counted from the frame in which the video began.
        last: the last frame that stays in the memory; None: `image` shall.
        keys: the video's own key projections, where it has some.
    """

    memory: DenseMemory
    image: Tensor
    encoded: Remembered | None
    masks: Masks
    index: int = 0
    last: int | None = None
    keys: Keys | None = None


class Query(NamedTuple):
    """A frame as the key encoder sees it: key B Ck h w, `thin` B Cv h w is the decoder's."""

    features: Pyramid
    key: Tensor
    thin: Tensor


class STCN(nn.Module):
    """The whole network; a `Segmenter`, `KeyMatching`.

    Args:
        backbone: of the key encoder, to stride 16; the paper's is `resnet50`.
        mask_backbone: of the value encoder; the paper's is `resnet18`.
        norm: normalisation of the encoders; `group` suits training from random initialisation.
        width: of the encoders; 64 is the published one.
        key_channels: compared; 64 as published.
        value_channels: carried; 512 as published.
        decoder_width: 256 as published.
        memory_every: frames from one that stays in the memory to the next; frames with given masks always stay. In
            training all frames do.
        memory_previous: the previous frame is always there too, until the next one is segmented.
        memory_bound: most frames that stay, at least 2: the first and the newest others; None: all.
        top_k: positions that take part in a read outside of training; None: all.
        object_chunk: so many objects are encoded and decoded at once; bounds memory, changes nothing else.

    Raises:
        ValueError: for a memory or a read without room.
    """

    stride = 16
    padding: Padding = "mean"
    comparison: Comparison = "l2"
    features = low_level
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
            last = state.index if self._stays(state) else last
            query = self.encode(frame.image, state.keys)
            f16 = query.features.f16
            encoded = Remembered(memory_key(self.key, f16, query.key, state.keys), f16)
            odds = self.decode(query, self.read(query, memory))
        else:
            odds = masks.probs
        logits = aggregate_product(odds, masks.slot_mask)
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
        """See `KeyMatching.compare`. The memory's side is the frame itself, the same for all objects."""
        encoded = state.encoded or self._remember(state)
        return KeyInputs(encoded.f16, encoded.f16.unsqueeze(1), state.masks, state.keys), replace(
            state, encoded=encoded
        )

    def with_keys(self, state: STCNState, keys: Keys) -> STCNState:
        """See `KeyMatching.with_keys`."""
        encoded = state.encoded
        if encoded is not None:
            encoded = Remembered(project(self.key, encoded.f16, keys.stored), encoded.f16)
        return replace(state, keys=keys, encoded=encoded)

    def encode(self, image: Tensor, keys: Keys | None = None) -> Query:
        """Key encoder (section 3.1): B 3 H W -> features, key, and what the decoder sees of the frame."""
        features = Pyramid(*self.encoder(self.normalise(image)))
        return Query(features, project(self.key, features.f16, query_proj(keys)), self.thin(features.f16))

    def memorise(self, state: STCNState) -> DenseMemory:
        """Value encoder (section 3.1): the frame that the state holds, with its masks, joins the memory."""
        stay = self._stays(state)
        if not state.memory.wants(stay):
            return state.memory
        key, f16 = state.encoded or self._remember(state)
        return state.memory.write(flatten_hw(key).unsqueeze(1), self.value(state.image, f16, state.masks), stay)

    def value(self, image: Tensor, f16: Tensor, masks: Masks) -> Tensor:
        """What a frame B 3 H W with the feature B C h w is remembered to hold: B O hw Cv."""
        stem = self.mask_encoder.conv1(self.normalise(image))
        share = self.fuser.share(f16)

        def fuse(masks: Tensor) -> Tensor:
            return flatten_hw(self.fuser(self.mask_encoder.encode(stem, masks), share))

        return in_chunks(fuse, masks_and_others(masks, clamp=False), self.object_chunk)

    def read(self, query: Query, memory: DenseMemory) -> Tensor:
        """Memory read by L2 similarity (sections 3.2, 4): B O Cv h w."""
        top_k = None if self.training else self.top_k
        return unflatten_hw(memory.read(flatten_hw(query.key), top_k, "l2"), query.key)

    def decode(self, query: Query, readout: Tensor) -> Tensor:
        """Decoder (section 3.2): readouts B O Cv h w -> log-odds B O H W."""
        share = self.decoder.share(query.thin, query.features)
        return in_chunks(lambda own: self.decoder(own, share)[:, 0], readout, self.object_chunk)

    def _stays(self, state: STCNState) -> bool:
        return self.training or state.last is None or state.index - state.last >= self.memory_every

    def _remember(self, state: STCNState) -> Remembered:
        f16 = self.encoder(self.normalise(state.image))[-1]
        return Remembered(project(self.key, f16, memory_proj(state.keys)), f16)


def _aggregated(masks: Masks) -> Masks:
    """Given masks pass through the aggregation too: 0 and 1 become 1e-7 and 1 - 1e-7."""
    return masks.with_probs(object_probabilities(aggregate_product(masks.probs.logit(), masks.slot_mask)))
