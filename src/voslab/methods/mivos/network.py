"""MiVOS's propagation network (Cheng et al. 2021): a space-time memory of which only the best positions are read.

Shapes: B clips, O objects, N = B O, C channels. The query encoder runs once per frame; the memory encoder sees masks
and so runs once per object, when a frame is memorised: every object has keys of its own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from voslab.core import Frame, KeyInputs, Keys, Masks, State, state
from voslab.core.segmenter import Comparison, Padding
from voslab.nn.affinity import Kernel
from voslab.nn.aggregation import aggregate_product, object_probabilities
from voslab.nn.blocks import flatten_hw, in_chunks, unflatten_hw
from voslab.nn.decoders import STCNDecoder
from voslab.nn.encoders import KeyValue, MaskEncoder, masks_and_others
from voslab.nn.key_projections import memory_proj, query_proj
from voslab.nn.memory import DenseMemory, check_policy
from voslab.nn.normalise import Normalise
from voslab.nn.resnet import Norm, Pyramid, ResNet, low_level


@state
class MiVOSState(State):
    """The memory, and the frame that enters it at the next step.

    Attributes:
        memory: keys and values up to the frame before `image`.
        image: B 3 H W.
        masks: of `image`: hard where they were given, else the aggregated probabilities.
        index: of `image`, counted from the frame in which the video began.
        last: the last frame that stays in the memory; None: `image` shall.
        keys: the video's own key projections, where it has some.
    """

    memory: DenseMemory
    image: Tensor
    masks: Masks
    index: int = 0
    last: int | None = None
    keys: Keys | None = None


class Query(NamedTuple):
    """A frame as the query encoder sees it: key B Ck h w, value B Cv h w."""

    features: Pyramid
    key: Tensor
    value: Tensor


class MiVOS(nn.Module):
    """The whole network; a `Segmenter`, `KeyMatching`.

    Args:
        backbone: of both encoders; the paper's is `resnet50`, to stride 16.
        norm: normalisation of the encoders; `group` suits training from random initialisation.
        width: of the encoders; 64 is the published one.
        key_channels: compared; 128 as published.
        value_channels: carried; 512 as published.
        decoder_width: 256 as published.
        memory_every: frames from one that stays in the memory to the next; frames with given masks always stay.
        memory_previous: the previous frame is always there too, until the next one is segmented.
        memory_bound: most frames that stay, at least 2: the first and the newest others; None: all.
        top_k: positions that take part in a read outside of training; None: all.
        kernel: sigma in cells of a Gaussian around each memory position's best place in the query (KMN), outside of
            training; None: nowhere, as published for DAVIS; 5.6 as published for YouTube-VOS.
        object_chunk: so many objects are encoded and decoded at once; bounds memory, changes nothing else.

    Raises:
        ValueError: for a memory or a read without room.
    """

    stride = 16
    padding: Padding = "mean"
    comparison: Comparison = "dot"
    features = low_level
    stages: ClassVar[tuple[str, ...]] = ("encode", "memorise", "read", "decode")

    def __init__(
        self,
        backbone: str = "resnet50",
        norm: Norm = "batch",
        width: int = 64,
        key_channels: int = 128,
        value_channels: int = 512,
        decoder_width: int = 256,
        memory_every: int = 5,
        memory_previous: bool = True,
        memory_bound: int | None = None,
        top_k: int | None = 50,
        kernel: float | None = None,
        object_chunk: int = 4,
    ) -> None:
        super().__init__()
        check_policy(memory_every, memory_bound, top_k)
        if kernel is not None and kernel <= 0:
            raise ValueError(f"kernel={kernel}: must be positive")
        self.memory_every = memory_every
        self.memory_previous = memory_previous
        self.memory_bound = memory_bound
        self.top_k = top_k
        self.kernel = kernel
        self.object_chunk = object_chunk
        self.normalise = Normalise()
        self.encoder = ResNet(backbone, norm, width, layers=3)
        self.mask_encoder = MaskEncoder(backbone, norm, width, bias=True)
        f4, f8, f16 = self.encoder.channels
        self.query = KeyValue(f16, key_channels, value_channels)
        self.memory = KeyValue(f16, key_channels, value_channels)
        # As with encoder weights of one file: what a position is remembered by begins as what it is asked for by.
        self.mask_encoder.load_state_dict(self.encoder.state_dict(), strict=False)
        self.memory.load_state_dict(self.query.state_dict())
        self.decoder = STCNDecoder(value_channels, value_channels, f8, f4, decoder_width, skip_block=True)

    def begin(self, frame: Frame, masks: Masks) -> MiVOSState:
        """See `Segmenter.begin`."""
        memory = DenseMemory([], self.memory_bound, self.memory_previous).extend(masks.probs.shape[1])
        return MiVOSState(memory, frame.image, masks)

    def step(self, frame: Frame, state: MiVOSState) -> tuple[Tensor, MiVOSState]:
        """See `Segmenter.step`."""
        memory, masks, last = state.memory, state.masks, state.last
        if masks.probs.shape[1]:
            memory = self.memorise(state)
            last = state.index if self._stays(state) else last
            query = self.encode(frame.image, state.keys)
            odds = self.decode(query, self.read(query, memory))
        else:
            odds = masks.probs
        logits = aggregate_product(odds, masks.slot_mask)
        masks = masks.with_probs(object_probabilities(logits))
        return logits, MiVOSState(memory, frame.image, masks, state.index + 1, last, state.keys)

    def add(self, frame: Frame, masks: Masks, state: MiVOSState) -> MiVOSState:
        """See `Segmenter.add`. The memory of a new object begins with this frame."""
        memory = state.memory.extend(masks.probs.shape[1])
        return replace(state, memory=memory, masks=state.masks.append(masks), last=None)

    def key_layers(self) -> tuple[nn.Conv2d, ...]:
        """See `KeyMatching.key_layers`."""
        return self.query.key, self.memory.key

    def compare(self, state: MiVOSState) -> tuple[KeyInputs, MiVOSState]:
        """See `KeyMatching.compare`. The memory encoder's features are not kept: its masks may still change."""
        query = self.encoder(self.normalise(state.image))[-1]
        return KeyInputs(query, self._joined(state.image, state.masks), state.masks, state.keys), state

    def with_keys(self, state: MiVOSState, keys: Keys) -> MiVOSState:
        """See `KeyMatching.with_keys`."""
        return replace(state, keys=keys)

    def encode(self, image: Tensor, keys: Keys | None = None) -> Query:
        """Query encoder: B 3 H W -> features, key and value."""
        features = Pyramid(*self.encoder(self.normalise(image)))
        return Query(features, *self.query(features.f16, query_proj(keys)))

    def memorise(self, state: MiVOSState) -> DenseMemory:
        """Memory encoder: the frame that the state holds, with its masks, joins the memory."""
        stay = self._stays(state)
        if not state.memory.wants(stay):
            return state.memory
        return state.memory.write(*self.remember(state.image, state.masks, state.keys), stay)

    def remember(self, image: Tensor, masks: Masks, keys: Keys | None = None) -> tuple[Tensor, Tensor]:
        """A frame B 3 H W and its masks -> keys B O hw Ck, values B O hw Cv."""
        features = self._joined(image, masks)
        projected = self.memory(features.flatten(0, 1), memory_proj(keys))
        key, value = (torch.unflatten(flatten_hw(x), 0, features.shape[:2]) for x in projected)
        return key, value

    def read(self, query: Query, memory: DenseMemory) -> Tensor:
        """Memory read of the best positions, kernelised on request: B O Cv h w."""
        top_k = None if self.training else self.top_k
        kernel = None if self.training or self.kernel is None else Kernel(self.kernel, query.key.shape[-1])
        return unflatten_hw(memory.read(flatten_hw(query.key), top_k, "dot", kernel), query.key)

    def decode(self, query: Query, readout: Tensor) -> Tensor:
        """Decoder: readouts B O Cv h w -> log-odds B O H W."""
        share = self.decoder.share(query.value, query.features)
        return in_chunks(lambda own: self.decoder(own, share)[:, 0], readout, self.object_chunk)

    def _stays(self, state: MiVOSState) -> bool:
        return state.last is None or state.index - state.last >= self.memory_every

    def _joined(self, image: Tensor, masks: Masks) -> Tensor:
        """The memory encoder's features of a frame with its masks: B O C h w."""
        stem = self.mask_encoder.conv1(self.normalise(image))
        probs = masks_and_others(masks, clamp=False)
        return in_chunks(partial(self.mask_encoder.encode, stem), probs, self.object_chunk)
