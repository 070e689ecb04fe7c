"""XMem (Cheng and Schwing 2022): sensory, working and long-term memory.

Shapes: B clips, O objects, N = B O, C channels. As in STCN, keys do not depend on masks, so objects share one affinity.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from voslab.core import Frame, KeyInputs, KeyMatching, Keys, Masks
from voslab.core.parameters import Count, Range
from voslab.core.segmenter import Comparison, Padding
from voslab.methods.xmem.decoder import XMemDecoder
from voslab.methods.xmem.state import EncodedFrame, Query, XMemState
from voslab.nn.aggregation import aggregate_masks, aggregate_product, object_probabilities
from voslab.nn.backbone import Norm, Pyramid, low_level_features
from voslab.nn.blocks import FeatureFusion, flatten_hw, map_chunks, unflatten_hw
from voslab.nn.encoders import frame_encoder, mask_encoder, masks_with_others
from voslab.nn.key_projections import memory_key, project, query_proj
from voslab.nn.long_term_memory import LongTermMemory, LongTermPolicy
from voslab.nn.memory import check_policy
from voslab.nn.normalise import Normalise
from voslab.nn.sensory import SensoryUpdate


class XMem(KeyMatching[XMemState]):
    """XMem as a `KeyMatching` segmenter.

    Args:
        backbone: ResNet or EfficientNet-Lite of the key encoder, to stride 16; `resnet50` in the paper.
        mask_backbone: network of the value encoder, `resnet18` in the paper.
        norm: normalisation of the encoders; use `group` for training from random initialisation.
        width: width of the ResNets; 64 as published.
        key_channels: key channels; 64 as published.
        value_channels: value channels; 512 as published.
        sensory_channels: channels of the sensory memory; 64 as published, 0: none.
        decoder_width: width of the decoder; 256 as published.
        memory_every: interval r of memory frames; frames with given masks are memory frames too. In training all are.
        deep_update_every: minimum interval of deep updates, which take effect on memory frames; the decoder then
            updates the sensory memory on every frame. None: on each memory frame, in place of the decoder's update.
        long_term: whether old frames become prototypes; otherwise the memory grows without bound.
        max_frames: number of frames T_max in the working memory at which the older ones become prototypes.
        min_frames: number of frames T_min that stay: the first one and the newest others.
        prototypes: number P of prototypes that replace the older frames.
        max_elements: maximum number L_max of elements of the long-term memory.
        memory_given: maximum number of frames with given masks, which never become prototypes; `max_frames` counts the
            first one only.
        top_k: number of memory positions per read outside of training; None: all.
        train_refs: number of frames that are read in training: the first one and random others.
        train_deep: probability of a deep update in training, after the first frame.
        object_chunk: number of objects that are encoded and decoded at a time; bounds memory only.

    Raises:
        ValueError: if a parameter of the memory is out of range.
    """

    stride = 16
    padding: Padding = "mean"
    comparison: Comparison = "anisotropic"
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
        sensory_channels: Annotated[int, Range(0, 2**31 - 1)] = 64,
        decoder_width: Count = 256,
        memory_every: Count = 5,
        deep_update_every: int | None = None,
        long_term: bool = True,
        max_frames: Count = 10,
        min_frames: Count = 5,
        prototypes: Count = 128,
        max_elements: Count = 10000,
        memory_given: Count = 8,
        top_k: int | None = 30,
        train_refs: Count = 3,
        train_deep: Annotated[float, Range(0, 1)] = 0.2,
        object_chunk: Count = 4,
    ) -> None:
        super().__init__()
        check_policy(memory_every, None, top_k, memory_given)
        if deep_update_every is not None and deep_update_every < 1:
            raise ValueError(f"deep_update_every={deep_update_every}: must be at least 1, or null")
        self.policy = LongTermPolicy(long_term, max_frames, min_frames, prototypes, max_elements, memory_given)
        self.memory_every = memory_every
        self.deep_update_every = deep_update_every
        self.top_k = top_k
        self.train_refs = train_refs
        self.train_deep = train_deep
        self.object_chunk = object_chunk
        self.value_channels = value_channels
        self.sensory_channels = sensory_channels
        self.encoder = frame_encoder(backbone, norm, width)
        self.mean = self.encoder.mean
        self.normalise = Normalise(self.mean, self.encoder.std)
        self.mask_encoder = mask_encoder(mask_backbone, norm, width)
        f16 = self.encoder.channels[-1]
        self.key = nn.Conv2d(f16, key_channels, 3, padding=1)
        self.shrinkage = nn.Conv2d(f16, 1, 3, padding=1)
        self.selection = nn.Conv2d(f16, key_channels, 3, padding=1)
        self.fuser = FeatureFusion(self.mask_encoder.channels[-1], f16, value_channels)
        self.deep_update = SensoryUpdate(value_channels, sensory_channels) if sensory_channels else None
        self.decoder = XMemDecoder(value_channels, sensory_channels, self.encoder.channels, decoder_width)
        nn.init.orthogonal_(self.key.weight)
        assert self.key.bias is not None
        nn.init.zeros_(self.key.bias)

    def begin(self, frame: Frame, masks: Masks) -> XMemState:
        """See `Segmenter.begin`."""
        batch, objects, rows, columns = masks.probs.shape
        # Without usage there is nothing to choose prototypes by: training reads all frames.
        policy = replace(self.policy, enabled=False) if self.training else self.policy
        memory = LongTermMemory.empty(batch, policy).extend(objects)
        size = (rows // self.stride, columns // self.stride)
        sensory = frame.image.new_zeros(batch, objects, self.sensory_channels, *size)
        return XMemState(memory, frame.image, None, aggregate_masks(masks), sensory)

    def step(self, frame: Frame, state: XMemState) -> tuple[Tensor, XMemState]:
        """See `Segmenter.step`."""
        index, keys = state.index + 1, state.keys
        if not state.masks.probs.shape[1]:
            logits = aggregate_product(state.masks.probs, state.masks.slot_mask)
            return logits, replace(state, image=frame.image, index=index, encoded=None)
        state = self.memorise(state)
        query = self.encode(frame.image, keys)
        readout, memory = self.read(query, state.memory)
        # On a memory frame, the deep update takes the place of the decoder's.
        skipped = not self.training and self.deep_update_every is None and self._is_due(index, state.last)
        log_odds, updated = self.decode(query, readout, state.sensory, not skipped)
        logits = aggregate_product(log_odds, state.masks.slot_mask)
        masks = state.masks.with_probs(object_probabilities(logits))
        key = memory_key(self.key, query.features.f16, query.key, keys)
        encoded = EncodedFrame(key, query.shrinkage, query.selection, query.features.f16)
        made = XMemState(memory, frame.image, encoded, masks, state.sensory, updated, index, state.last)
        return logits, replace(made, last_deep=state.last_deep, keys=keys)

    def add(self, frame: Frame, masks: Masks, state: XMemState, known: Masks | None = None) -> XMemState:
        """See `Segmenter.add`. The memory of a new object begins with this frame."""
        objects = masks.probs.shape[1]
        memory = state.memory.extend(objects)
        sensory, updated = (
            x if x is None else torch.cat([x, x.new_zeros(len(x), objects, *x.shape[2:])], 1)
            for x in (state.sensory, state.updated)
        )
        assert sensory is not None, "a state has a sensory memory"
        masks = aggregate_masks((known or state.masks).append(masks))
        given = known is not None
        return replace(state, memory=memory, masks=masks, sensory=sensory, updated=updated, last=None, given=given)

    def key_layers(self) -> tuple[nn.Conv2d, ...]:
        """See `KeyMatching.key_layers`: one projection for both."""
        return (self.key,)

    def compare(self, state: XMemState) -> tuple[KeyInputs, XMemState]:
        """See `KeyMatching.compare`. The memory input is the frame itself, for all objects."""
        encoded = state.encoded or self._encode_frame(state)
        f16, shrinkage = encoded.f16, encoded.shrinkage.unsqueeze(1)
        inputs = KeyInputs(f16, f16.unsqueeze(1), state.masks, state.keys, encoded.selection, shrinkage)
        return inputs, replace(state, encoded=encoded)

    def with_keys(self, state: XMemState, keys: Keys) -> XMemState:
        """See `KeyMatching.with_keys`."""
        encoded = state.encoded
        if encoded is not None:
            encoded = encoded._replace(key=project(self.key, encoded.f16, keys.stored))
        return replace(state, keys=keys, encoded=encoded)

    def encode(self, image: Tensor, keys: Keys | None = None) -> Query:
        """Key encoder (sections 3.1, 3.3): encode an image B 3 H W."""
        features = Pyramid(*self.encoder(self.normalise(image)))
        f16 = features.f16
        shrinkage, selection = self.shrinkage(f16).square() + 1, self.selection(f16).sigmoid()
        return Query(features, project(self.key, f16, query_proj(keys)), shrinkage, selection)

    def memorise(self, state: XMemState) -> XMemState:
        """Write the newest frame to the memory, if it is due, and update the sensory memory (sections 3.2, 3.4).

        Returns:
            the state, with a `sensory` memory that holds the update of the frame.
        """
        sensory = state.sensory if state.updated is None else state.updated
        if not (self.training or self._is_due(state.index, state.last)):
            return replace(state, sensory=sensory, updated=None)
        if not self.training and self.deep_update_every is None:
            sensory = state.sensory
        deep = self._is_deep(state)
        encoded = state.encoded or self._encode_frame(state)
        values, deeper = self.value(state.image, encoded.f16, state.masks, sensory, deep)
        key, shrinkage, selection = (flatten_hw(x) for x in encoded[:3])
        memory = state.memory.write(key, shrinkage, selection, values, state.given)
        last_deep = state.index if deep else state.last_deep
        return replace(state, memory=memory, sensory=deeper, updated=None, last=state.index, last_deep=last_deep)

    def value(
        self, image: Tensor, f16: Tensor, masks: Masks, sensory: Tensor, deep: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Value encoder (section 3.1): memory values B O hw Cv, and the sensory memory B O Ch h w after a deep update.

        Args:
            image: B 3 H W.
            f16: its feature B C h w at stride 16.
            masks: masks of the frame.
            sensory: B O Ch h w.
            deep: whether to update it.
        """
        shared, stem = self.fuser.forward_shared(f16), self.mask_encoder.encode_image(image)

        def encode(masks: Tensor, sensory: Tensor) -> tuple[Tensor, Tensor]:
            value = self.fuser(self.mask_encoder.encode(stem, masks), shared)
            if deep and self.deep_update is not None:
                sensory = self.deep_update(value, sensory)
            return flatten_hw(value), sensory

        values, sensory = map_chunks(encode, (masks_with_others(masks, clamp=False), sensory), self.object_chunk)
        return values, sensory

    def read(self, query: Query, memory: LongTermMemory) -> tuple[Tensor, LongTermMemory]:
        """Memory read by the anisotropic similarity (section 3.3): readouts B O Cv h w, and the memory with its use."""
        key, selection = flatten_hw(query.key), flatten_hw(query.selection)
        if self.training:
            readout = memory.read_random_frames(key, selection, self.train_refs)
        else:
            readout, memory = memory.read(key, selection, self.top_k)
        return unflatten_hw(readout, query.key), memory

    def decode(
        self, query: Query, readout: Tensor, sensory: Tensor, update: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Decoder (section 3.1): log-odds B O H W, and the sensory memory B O Ch h w after its update, None without.

        Args:
            query: encoding of the frame.
            readout: B O Cv h w.
            sensory: B O Ch h w.
            update: whether to update it.
        """
        shared = self.decoder.forward_shared(query.features)

        def decode(readout: Tensor, sensory: Tensor) -> tuple[Tensor, Tensor]:
            return self.decoder(readout, sensory, shared, update)  # type: ignore[no-any-return]

        log_odds, updated = map_chunks(decode, (readout, sensory), self.object_chunk)
        return log_odds, updated if update else None

    def _is_due(self, index: int, last: int | None) -> bool:
        return last is None or index - last >= self.memory_every

    def _is_deep(self, state: XMemState) -> bool:
        """Whether the sensory memory gets a deep update on a memory frame; always on the first one."""
        if state.last_deep is None:
            return True
        if self.training:
            return bool(torch.rand(()) < self.train_deep)
        return self.deep_update_every is None or state.index - state.last_deep >= self.deep_update_every

    def _encode_frame(self, state: XMemState) -> EncodedFrame:
        query = self.encode(state.image)
        key = query.key if state.keys is None else project(self.key, query.features.f16, state.keys.stored)
        return EncodedFrame(key, query.shrinkage, query.selection, query.features.f16)
