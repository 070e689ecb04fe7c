"""GAM (Wang et al., Real-time High-Resolution VOS): a memory of fixed size, channel attention, mask embedding.

Shapes: B clips, O objects, N = B O, C channels. A frame is encoded once, for query and memory (section 3.2.2).
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from voslab.core import Frame, KeyInputs, KeyMatching, Keys, Masks, State, state_dataclass
from voslab.core.parameters import Count
from voslab.core.segmenter import Comparison, Padding
from voslab.methods.gam.attention import CAM, CAMNorm
from voslab.methods.gam.embedding import MEM
from voslab.nn.aggregation import aggregate_product, object_probabilities
from voslab.nn.backbone import Norm, Pyramid, low_level_features
from voslab.nn.blocks import FeatureFusion, add_shared, expand_shared, flatten_hw, in_chunks, unflatten_hw
from voslab.nn.decoders import STMDecoder
from voslab.nn.encoders import KeyValue, frame_encoder, mask_encoder, masks_with_others
from voslab.nn.global_memory import GlobalMemory, KeyNorm, QueryNorm, normalise_key, normalise_query
from voslab.nn.key_projections import memory_key, project, query_proj
from voslab.nn.normalise import Normalise

Merge = Literal["concat", "sum"]
Fuser = Literal["full", "light"]
KERNELS: dict[Fuser, int] = {"full": 3, "light": 1}


@state_dataclass
class GAMState(State):
    """State of a video: the memory, and the newest frame, which enters the memory at the next step.

    Attributes:
        memory: memory of the frames before `image`.
        image: newest frame, B 3 H W.
        f16: feature of `image`, B C h w.
        key: memory key of `image`, B Ck h w.
        masks: masks of `image`: the given ones, or the aggregated probabilities.
        older: masks of the frames before `image`, newest first, B O n H W.
        index: index of `image`, counted from the first frame of the state.
        given: whether masks of known objects were given for `image`.
        keys: key projections of the video; None: the network's own.
    """

    memory: GlobalMemory
    image: Tensor
    f16: Tensor
    key: Tensor
    masks: Masks
    older: Tensor
    index: int
    given: bool = False
    keys: Keys | None = None


class Encoded(NamedTuple):
    """Encoded frame: features, key L_F B Ck h w and value V_L B Cv h w (section 3.2.2)."""

    features: Pyramid
    key: Tensor
    value: Tensor


class GAM(KeyMatching[GAMState]):
    """GAM as a `KeyMatching` segmenter. GC (Li et al. 2020) is `cam=False, mem=False`.

    Args:
        backbone: ResNet or EfficientNet-Lite of the frame encoder, to stride 16; `resnet50` in the paper.
        mask_backbone: ResNet or EfficientNet-Lite of the mask encoder; `resnet18` in the paper.
        norm: normalisation of the encoders; use `group` for training from random initialisation.
        width: width of the encoders; 64 as published.
        key_channels: key channels, C_N.
        value_channels: value channels, C_M.
        decoder_width: width of STM's decoder; 256 as published.
        centred: see `KeyValue`; use it for training from random initialisation.
        cam: whether there is channel-wise attention.
        cam_norm: see `CAM`.
        mem: whether there is a mask embedding.
        mem_channels: channels of the mask embedding.
        history: number of past masks that are embedded.
        coordinates: whether coordinate maps are embedded too.
        merge: how readout and value of the frame are merged; the paper describes both `concat` and `sum`.
        key_norm: normalisation of memory keys over positions; not given in the paper.
        query_norm: normalisation of queries over channels; not given in the paper.
        update_every: k; frames 0, k, 2k, … are written to the memory.
        fuser: kernel of the fusion of mask and frame features: 3x3 (`full`, as in STCN) or 1x1 (`light`).
        object_chunk: number of objects that are encoded and decoded at a time; bounds memory only.
    """

    stride = 16
    padding: Padding = "zeros"
    features = low_level_features
    stages: ClassVar[tuple[str, ...]] = ("encode", "memorise", "read", "embed", "decode")
    variant_modules: ClassVar[tuple[str, ...]] = ("cam.", "mem.", "fuser.", "decoder.conv.")

    def __init__(
        self,
        backbone: str = "resnet50",
        mask_backbone: str = "resnet18",
        norm: Norm = "batch",
        width: Count = 64,
        key_channels: Count = 64,
        value_channels: Count = 512,
        decoder_width: Count = 256,
        centred: bool = False,
        cam: bool = True,
        cam_norm: CAMNorm = "mean",
        mem: bool = True,
        mem_channels: Count = 256,
        history: Count = 3,
        coordinates: bool = True,
        merge: Merge = "concat",
        key_norm: KeyNorm = "softmax",
        query_norm: QueryNorm = "softmax",
        update_every: Count = 1,
        fuser: Fuser = "full",
        object_chunk: Count = 4,
    ) -> None:
        super().__init__()
        _check(merge, fuser, key_norm, query_norm, update_every)
        self.merge = merge
        self.key_norm = key_norm
        self.query_norm = query_norm
        self.update_every = update_every
        self.object_chunk = object_chunk
        self.encoder = frame_encoder(backbone, norm, width)
        self.mean = self.encoder.mean
        self.normalise = Normalise(self.mean, self.encoder.std)
        f4, f8, f16 = self.encoder.channels
        self.project = KeyValue(f16, key_channels, value_channels, centred)
        self.mask_encoder = mask_encoder(mask_backbone, norm, width)
        self.fuser = FeatureFusion(self.mask_encoder.channels[-1], f16, value_channels, KERNELS[fuser])
        self.cam = CAM(cam_norm) if cam else None
        self.mem = MEM(history, coordinates, mem_channels) if mem else None
        self.maps = {name: name for name, used in (("cam", cam), ("mem", mem)) if used}
        # Objects share the value unless channel attention or a sum mixes it with their readouts.
        shared = value_channels if merge == "concat" and not cam else 0
        object_channels = value_channels * (2 if merge == "concat" and cam else 1) + mem_channels * mem
        self.decoder = STMDecoder(object_channels, shared, f8, f4, decoder_width)

    @property
    def comparison(self) -> Comparison | None:
        """See `KeyMatching.comparison`."""
        return "linear" if self.key_norm == self.query_norm == "softmax" else None

    def begin(self, frame: Frame, masks: Masks) -> GAMState:
        """See `Segmenter.begin`. MEM uses the given masks as all past masks."""
        encoded = self.encode(frame.image)
        batch, objects = masks.slot_mask.shape
        keys, values = self.project.key.out_channels, self.project.value.out_channels
        memory = GlobalMemory.empty(batch, objects, keys, values, frame.image.device)
        return GAMState(memory, frame.image, encoded.features.f16, encoded.key, masks, self._repeat(masks.probs), 0)

    def step(self, frame: Frame, state: GAMState) -> tuple[Tensor, GAMState]:
        """See `Segmenter.step`."""
        memory, masks = state.memory, state.masks
        encoded = self.encode(frame.image, state.keys)
        if masks.probs.shape[1]:
            memory = self.memorise(state)
            log_odds = self.decode(encoded, self.read(encoded, memory), self.embed(state))
        else:
            log_odds = masks.probs
        logits = aggregate_product(log_odds, masks.slot_mask)
        older = state.older
        if older.shape[2]:
            older = torch.cat([masks.probs.unsqueeze(2), older[:, :, :-1]], 2)
        masks = masks.with_probs(object_probabilities(logits))
        f16 = encoded.features.f16
        key = memory_key(self.project.key, self.project.key_input(f16), encoded.key, state.keys)
        return logits, GAMState(memory, frame.image, f16, key, masks, older, state.index + 1, keys=state.keys)

    def add(self, frame: Frame, masks: Masks, state: GAMState, known: Masks | None = None) -> GAMState:
        """See `Segmenter.add`. The memory and the past masks of a new object begin with this frame."""
        memory = state.memory.extend(masks.probs.shape[1])
        older = torch.cat([state.older, self._repeat(masks.probs)], 1)
        masks = (known or state.masks).append(masks)
        return replace(state, memory=memory, masks=masks, older=older, given=known is not None)

    def key_layers(self) -> tuple[nn.Conv2d, ...]:
        """See `KeyMatching.key_layers`: one projection for both."""
        return (self.project.key,)

    def compare(self, state: GAMState) -> tuple[KeyInputs, GAMState]:
        """See `KeyMatching.compare`. The memory input is the frame itself, for all objects."""
        compared = self.project.key_input(state.f16)
        return KeyInputs(compared, compared.unsqueeze(1), state.masks, state.keys), state

    def with_keys(self, state: GAMState, keys: Keys) -> GAMState:
        """See `KeyMatching.with_keys`."""
        return replace(state, keys=keys, key=project(self.project.key, self.project.key_input(state.f16), keys.stored))

    def encode(self, image: Tensor, keys: Keys | None = None) -> Encoded:
        """Frame encoder (section 3.2.2): encode an image B 3 H W."""
        features = Pyramid(*self.encoder(self.normalise(image)))
        return Encoded(features, *self.project(features.f16, query_proj(keys)))

    def memorise(self, state: GAMState) -> GlobalMemory:
        """Mask encoder, aggregation and update (Eq. 1-2): write the newest frame and its masks to the memory."""
        stay = state.given or state.index % self.update_every == 0
        if not state.memory.needs_write(stay):
            return state.memory
        return state.memory.write(*self.encode_memory(state.image, state.f16, state.key, state.masks), stay)

    def encode_memory(self, image: Tensor, f16: Tensor, key: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
        """Compute the normalised memory key B 1 hw Ck and values B O hw Cv of a frame and its masks."""
        stem = self.mask_encoder.encode_image(image)
        shared = self.fuser.forward_shared(f16)

        def fuse(masks: Tensor) -> Tensor:
            return flatten_hw(self.fuser(self.mask_encoder.encode(stem, masks), shared))

        value = in_chunks(fuse, masks_with_others(masks, clamp=True), self.object_chunk)
        return normalise_key(flatten_hw(key), self.key_norm).unsqueeze(1), value

    def read(self, encoded: Encoded, memory: GlobalMemory) -> Tensor:
        """Attention distribution (Eq. 3): compute readouts D, B O Cv h w."""
        read = memory.read(normalise_query(flatten_hw(encoded.key), self.query_norm))
        return unflatten_hw(read, encoded.key).to(encoded.value.dtype)

    def embed(self, state: GAMState) -> Tensor | None:
        """Mask embedding (Eq. 8): embed the past masks to B O C h w; None without MEM."""
        if self.mem is None:
            return None
        past = torch.cat([state.masks.probs.unsqueeze(2), state.older], 2)
        return in_chunks(self.mem, past, self.object_chunk)

    def decode(self, encoded: Encoded, readout: Tensor, embedded: Tensor | None) -> Tensor:
        """Channel attention (section 3.3) and STM's decoder: readouts B O Cv h w -> log-odds B O H W."""
        shared = encoded.value if self.merge == "concat" and self.cam is None else None
        shared_features = self.decoder.forward_shared(shared, encoded.features)
        count = readout.shape[2]

        def decode(part: Tensor) -> Tensor:
            merged = self._merge(part[:, :count], encoded.value)
            log_odds: Tensor = self.decoder(torch.cat([merged, part[:, count:]], 1), shared_features)
            return log_odds[:, 0]

        inputs = readout if embedded is None else torch.cat([readout, embedded], 2)
        return in_chunks(decode, inputs, self.object_chunk)

    def _merge(self, readout: Tensor, value: Tensor) -> Tensor:
        """Merge readouts N Cv h w and the value of the frame, and apply CAM: N C h w."""
        if self.merge == "sum":
            readout = add_shared(readout.clone(), value)
        elif self.cam is not None:
            readout = torch.cat([readout, expand_shared(value, readout.shape[0] // value.shape[0])], 1)
        return readout if self.cam is None else self.cam(readout)

    def _repeat(self, probs: Tensor) -> Tensor:
        """Repeat masks B O H W as all past masks except the newest: B O n H W."""
        return probs.unsqueeze(2).expand(-1, -1, 0 if self.mem is None else self.mem.history - 1, -1, -1)


def _check(merge: str, fuser: str, key_norm: str, query_norm: str, update_every: int) -> None:
    wrong = [
        (merge not in ("concat", "sum"), f"unknown merge '{merge}'"),
        (fuser not in KERNELS, f"unknown fuser '{fuser}'"),
        (key_norm not in ("softmax", "mean", "none"), f"unknown key_norm '{key_norm}'"),
        (query_norm not in ("softmax", "scale", "none"), f"unknown query_norm '{query_norm}'"),
        (update_every < 1, f"update_every={update_every} must be at least 1"),
    ]
    if reasons := [reason for bad, reason in wrong if bad]:
        raise ValueError("; ".join(reasons))
