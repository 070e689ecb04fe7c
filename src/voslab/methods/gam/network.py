"""GAM (Wang et al., Real-time High-Resolution VOS): a memory of fixed size, channel attention, mask embedding.

Shapes: B clips, O objects, N = B O, C channels. Frames are encoded once, as query and as memory alike (section 3.2.2).
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from voslab.core import Frame, KeyInputs, Keys, Masks, State, state
from voslab.core.segmenter import Comparison, Padding
from voslab.methods.gam.attention import CAM, CAMNorm
from voslab.methods.gam.embedding import MEM
from voslab.nn.aggregation import aggregate_product, object_probabilities
from voslab.nn.blocks import FeatureFusion, flatten_hw, in_chunks, per_object, repeated, unflatten_hw
from voslab.nn.decoders import STMDecoder
from voslab.nn.encoders import KeyValue, MaskEncoder, masks_and_others
from voslab.nn.key_projections import memory_key, project, query_proj
from voslab.nn.memory import GlobalMemory, KeyNorm, QueryNorm, normalise_key, normalise_query
from voslab.nn.normalise import Normalise
from voslab.nn.resnet import Norm, Pyramid, ResNet, low_level

Merge = Literal["concat", "sum"]
Fuser = Literal["full", "light"]
KERNELS: dict[Fuser, int] = {"full": 3, "light": 1}


@state
class GAMState(State):
    """The memory, and the frame that enters it at the next step.

    Attributes:
        memory: frames before the one below.
        image: B 3 H W.
        f16: its feature B C h w.
        key: what it is remembered by, B Ck h w.
        masks: of that frame: hard where they were given, else the aggregated probabilities.
        older: masks before that, newest first, B O n H W.
        index: of that frame, counted from the one in which the video began.
        keys: the video's own key projections, where it has some.
    """

    memory: GlobalMemory
    image: Tensor
    f16: Tensor
    key: Tensor
    masks: Masks
    older: Tensor
    index: int
    keys: Keys | None = None


class Encoded(NamedTuple):
    """A frame: key L_F B Ck h w and value V_L B Cv h w (section 3.2.2)."""

    features: Pyramid
    key: Tensor
    value: Tensor


class GAM(nn.Module):
    """The whole network; a `Segmenter`, `KeyMatching`. GC (Li et al. 2020) is `cam=False, mem=False`.

    Args:
        backbone: of the frame encoder, to stride 16; the paper's is `resnet50`.
        mask_backbone: of the mask encoder; the paper's is `resnet18`.
        norm: normalisation of the encoders; `group` suits training from random initialisation.
        width: of the encoders; 64 is the published ResNets'.
        key_channels: C_N.
        value_channels: C_M.
        decoder_width: of STM's decoder; 256 as published.
        centred: see `KeyValue`; suits training from random initialisation.
        cam: channel-wise attention.
        cam_norm: see `CAM`.
        mem: mask embedding.
        mem_channels: of the embedding.
        history: past masks that are embedded.
        coordinates: whether coordinate maps are embedded with them.
        merge: what becomes of the readout and the frame's value: the paper says both, first `concat`, then `sum`.
        key_norm: of memory keys over positions, `query_norm`: of queries over channels; the paper prints neither.
        update_every: frames 0, k, 2k, … enter the memory.
        fuser: mask and frame feature become a value through 3x3 (`full`, STCN's) or 1x1 (`light`) convolutions.
        object_chunk: so many objects are encoded and decoded at once; bounds memory, changes nothing else.
    """

    stride = 16
    padding: Padding = "zeros"
    features = low_level
    stages: ClassVar[tuple[str, ...]] = ("encode", "memorise", "read", "embed", "decode")

    def __init__(
        self,
        backbone: str = "resnet50",
        mask_backbone: str = "resnet18",
        norm: Norm = "batch",
        width: int = 64,
        key_channels: int = 64,
        value_channels: int = 512,
        decoder_width: int = 256,
        centred: bool = False,
        cam: bool = True,
        cam_norm: CAMNorm = "mean",
        mem: bool = True,
        mem_channels: int = 256,
        history: int = 3,
        coordinates: bool = True,
        merge: Merge = "concat",
        key_norm: KeyNorm = "softmax",
        query_norm: QueryNorm = "softmax",
        update_every: int = 1,
        fuser: Fuser = "full",
        object_chunk: int = 4,
    ) -> None:
        super().__init__()
        _check(merge, fuser, key_norm, query_norm, update_every)
        self.merge = merge
        self.key_norm = key_norm
        self.query_norm = query_norm
        self.update_every = update_every
        self.comparison: Comparison | None = "linear" if key_norm == query_norm == "softmax" else None
        self.object_chunk = object_chunk
        self.normalise = Normalise()
        self.encoder = ResNet(backbone, norm, width, layers=3)
        f4, f8, f16 = self.encoder.channels
        self.project = KeyValue(f16, key_channels, value_channels, centred)
        self.mask_encoder = MaskEncoder(mask_backbone, norm, width)
        self.fuser = FeatureFusion(self.mask_encoder.channels[-1], f16, value_channels, KERNELS[fuser])
        self.cam = CAM(cam_norm) if cam else None
        self.mem = MEM(history, coordinates, mem_channels) if mem else None
        self.maps = {name: name for name, used in (("cam", cam), ("mem", mem)) if used}
        # The value is the same for all objects, until channel attention or a sum has mixed it with each one's readout.
        shared = value_channels if merge == "concat" and not cam else 0
        own = value_channels * (2 if merge == "concat" and cam else 1) + mem_channels * mem
        self.decoder = STMDecoder(own, shared, f8, f4, decoder_width)

    def begin(self, frame: Frame, masks: Masks) -> GAMState:
        """See `Segmenter.begin`. The given masks stand for all masks before them (MEM's start-up)."""
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
            odds = self.decode(encoded, self.read(encoded, memory), self.embed(state))
        else:
            odds = masks.probs
        logits = aggregate_product(odds, masks.slot_mask)
        older = state.older
        if older.shape[2]:
            older = torch.cat([masks.probs.unsqueeze(2), older[:, :, :-1]], 2)
        masks = masks.with_probs(object_probabilities(logits))
        f16 = encoded.features.f16
        key = memory_key(self.project.key, self.project.compared(f16), encoded.key, state.keys)
        return logits, GAMState(memory, frame.image, f16, key, masks, older, state.index + 1, state.keys)

    def add(self, frame: Frame, masks: Masks, state: GAMState) -> GAMState:
        """See `Segmenter.add`. The memory and the past masks of a new object begin with this frame."""
        memory = state.memory.extend(masks.probs.shape[1])
        older = torch.cat([state.older, self._repeat(masks.probs)], 1)
        return replace(state, memory=memory, masks=state.masks.append(masks), older=older)

    def key_layers(self) -> tuple[nn.Conv2d, ...]:
        """See `KeyMatching.key_layers`: one projection for both."""
        return (self.project.key,)

    def compare(self, state: GAMState) -> tuple[KeyInputs, GAMState]:
        """See `KeyMatching.compare`. The memory's side is the frame itself, the same for all objects."""
        compared = self.project.compared(state.f16)
        return KeyInputs(compared, compared.unsqueeze(1), state.masks, state.keys), state

    def with_keys(self, state: GAMState, keys: Keys) -> GAMState:
        """See `KeyMatching.with_keys`."""
        return replace(state, keys=keys, key=project(self.project.key, self.project.compared(state.f16), keys.stored))

    def encode(self, image: Tensor, keys: Keys | None = None) -> Encoded:
        """Frame encoder (section 3.2.2): B 3 H W -> features, key and value."""
        features = Pyramid(*self.encoder(self.normalise(image)))
        return Encoded(features, *self.project(features.f16, query_proj(keys)))

    def memorise(self, state: GAMState) -> GlobalMemory:
        """Mask encoder, aggregation and update (Eq. 1-2): the frame that the state holds, with its masks."""
        stay = state.index % self.update_every == 0
        if not state.memory.wants(stay):
            return state.memory
        return state.memory.write(*self.remember(state.image, state.f16, state.key, state.masks), stay)

    def remember(self, image: Tensor, f16: Tensor, key: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
        """A frame with its feature and key, and masks -> normalised key B 1 hw Ck, values B O hw Cv."""
        stem = self.mask_encoder.conv1(self.normalise(image))
        share = self.fuser.share(f16)

        def fuse(masks: Tensor) -> Tensor:
            return flatten_hw(self.fuser(self.mask_encoder.encode(stem, masks), share))

        value = in_chunks(fuse, masks_and_others(masks, clamp=True), self.object_chunk)
        return normalise_key(flatten_hw(key), self.key_norm).unsqueeze(1), value

    def read(self, encoded: Encoded, memory: GlobalMemory) -> Tensor:
        """Attention distribution (Eq. 3): D, B O Cv h w."""
        read = memory.read(normalise_query(flatten_hw(encoded.key), self.query_norm))
        return unflatten_hw(read, encoded.key).to(encoded.value.dtype)

    def embed(self, state: GAMState) -> Tensor | None:
        """Mask embedding (Eq. 8): B O C h w; None without MEM."""
        if self.mem is None:
            return None
        past = torch.cat([state.masks.probs.unsqueeze(2), state.older], 2)
        return in_chunks(self.mem, past, self.object_chunk)

    def decode(self, encoded: Encoded, readout: Tensor, embedded: Tensor | None) -> Tensor:
        """Channel attention (section 3.3) and STM's decoder: readouts B O Cv h w -> log-odds B O H W."""
        shared = encoded.value if self.merge == "concat" and self.cam is None else None
        share = self.decoder.share(shared, encoded.features)
        count = readout.shape[2]

        def decode(own: Tensor) -> Tensor:
            merged = self._merge(own[:, :count], encoded.value)
            odds: Tensor = self.decoder(torch.cat([merged, own[:, count:]], 1), share)
            return odds[:, 0]

        own = readout if embedded is None else torch.cat([readout, embedded], 2)
        return in_chunks(decode, own, self.object_chunk)

    def _merge(self, readout: Tensor, value: Tensor) -> Tensor:
        """The output of GAM and CAM, N C h w, from readouts N Cv h w and the frame's value."""
        if self.merge == "sum":
            readout = per_object(readout.clone(), value)
        elif self.cam is not None:
            readout = torch.cat([readout, repeated(value, readout.shape[0] // value.shape[0])], 1)
        return readout if self.cam is None else self.cam(readout)

    def _repeat(self, probs: Tensor) -> Tensor:
        """Planes B O H W as all masks but the newest, B O n H W."""
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
