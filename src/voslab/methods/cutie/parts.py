"""The parts of Cutie's network: pixel and mask encoder, pixel memory read, object transformer, decoder.

Shapes: B clips, O objects, N = B O, C channels. Keys do not depend on masks, so the objects of a bucket share one
affinity; see `BucketMemory`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import KeyMatching, Keys, Masks
from voslab.core.parameters import Count, Range
from voslab.core.segmenter import Comparison, Padding
from voslab.methods.cutie.blocks import ObjectFusion, PixelFuser
from voslab.methods.cutie.decoder import CutieDecoder
from voslab.methods.cutie.memory import BucketMemory
from voslab.methods.cutie.state import CutieState, Query
from voslab.methods.cutie.summariser import ObjectSummariser
from voslab.methods.cutie.transformer import ObjectTransformer
from voslab.nn.backbone import Norm, Pyramid, low_level_features
from voslab.nn.blocks import flatten_hw, map_chunks, unflatten_hw
from voslab.nn.encoders import frame_encoder, mask_encoder, masks_with_others
from voslab.nn.key_projections import project, query_proj
from voslab.nn.long_term_memory import LongTermPolicy
from voslab.nn.memory import check_policy
from voslab.nn.normalise import Normalise
from voslab.nn.sensory import SensoryUpdate


class CutieParts(KeyMatching[CutieState]):
    """The networks of `Cutie`, and what each of them computes for one frame.

    Args:
        backbone: ResNet or EfficientNet-Lite of the pixel encoder: `resnet18` (small), `resnet50` (base).
        mask_backbone: network of the mask encoder, `resnet18` in the paper.
        norm: normalisation of the encoders; use `group` for training from random initialisation.
        width: width of the ResNets; 64 as published.
        key_channels: key channels; 64 as published.
        value_channels: channels of values, readouts and queries, a multiple of 4 and of `heads`; 256 as published.
        sensory_channels: channels of the sensory memory; 256 as published.
        decoder_width: width of the decoder; 128 as published.
        queries: number of queries and summaries per object, even; 16 as published.
        blocks: number of blocks of the object transformer; 3 as published.
        heads: number of heads of its attention; 8 as published.
        feedforward: hidden channels of its feed-forward networks; 2048 as published.
        memory_every: interval r of memory frames; frames with given masks are memory frames too. In training all are.
        memory_bound: maximum number of frames in the pixel memory without long-term memory, at least 2: the first one
            and the newest others. None: no maximum.
        sensory_updates: number of frames per memory frame on which the decoder updates the sensory memory.
        long_term: whether old frames become prototypes, as in XMem.
        max_frames: number of frames at which the older ones become prototypes.
        min_frames: number of frames that stay: the first one and the newest others.
        prototypes: number of prototypes that replace the older frames.
        max_elements: maximum number of elements of the long-term memory.
        spare_elements: number of elements that are dropped beyond what new prototypes need.
        memory_given: maximum number of frames with given masks, which neither are dropped nor become prototypes;
            `memory_bound` and `max_frames` count the first one only.
        top_k: number of memory positions per read outside of training; None: all.
        flip: whether each frame is segmented together with its mirror image, and the probabilities are averaged.
        train_refs: number of random frames that are read in training.
        train_deep: probability of a deep update in training, after the first frame.
        train_points: number of points per frame at which the losses are computed.
        object_chunk: number of objects that are encoded and decoded at a time; bounds memory only.

    Raises:
        ValueError: if a parameter of the memory is out of range, or the channels do not fit the attention.
    """

    stride = 16
    padding: Padding = "zeros"
    comparison: Comparison = "anisotropic"
    features = low_level_features
    stages: ClassVar[tuple[str, ...]] = ("encode", "memorise", "read", "transform", "decode")

    def __init__(
        self,
        backbone: str = "resnet18",
        mask_backbone: str = "resnet18",
        norm: Norm = "batch",
        width: Count = 64,
        key_channels: Count = 64,
        value_channels: Count = 256,
        sensory_channels: Count = 256,
        decoder_width: Count = 128,
        queries: Count = 16,
        blocks: Annotated[int, Range(0, 1000)] = 3,
        heads: Count = 8,
        feedforward: Count = 2048,
        memory_every: Count = 5,
        memory_bound: int | None = 5,
        sensory_updates: Count = 5,
        long_term: bool = False,
        max_frames: Count = 10,
        min_frames: Count = 5,
        prototypes: Count = 128,
        max_elements: Count = 10000,
        spare_elements: Annotated[int, Range(0, 2**31 - 1)] = 2000,
        memory_given: Count = 8,
        top_k: int | None = 30,
        flip: bool = False,
        train_refs: Count = 3,
        train_deep: Annotated[float, Range(0, 1)] = 0.2,
        train_points: Count = 12544,
        object_chunk: Count = 4,
    ) -> None:
        super().__init__()
        check_policy(memory_every, memory_bound, top_k, memory_given)
        if value_channels % 4 or value_channels % heads or queries % 2:
            values = f"value_channels={value_channels}, heads={heads}, queries={queries}"
            raise ValueError(f"{values}: needs value_channels divisible by 4 and by heads, and even queries")
        self.policy = LongTermPolicy(
            long_term, max_frames, min_frames, prototypes, max_elements, memory_given, memory_bound, spare_elements
        )
        self.memory_every = memory_every
        self.sensory_updates = sensory_updates
        self.top_k = top_k
        self.flip = flip
        self.train_refs = train_refs
        self.train_deep = train_deep
        self.train_points = train_points
        self.object_chunk = object_chunk
        self.sensory_channels = sensory_channels
        self.value_channels = value_channels
        self.encoder = frame_encoder(backbone, norm, width)
        self.mean = self.encoder.mean
        self.normalise = Normalise(self.mean, self.encoder.std)
        f16 = self.encoder.channels[-1]
        self.pixel = nn.Conv2d(f16, value_channels, 1)
        self.key_input = nn.Conv2d(f16, value_channels, 1)
        self.key = nn.Conv2d(value_channels, key_channels, 3, padding=1)
        self.shrinkage = nn.Conv2d(value_channels, 1, 3, padding=1)
        self.selection = nn.Conv2d(value_channels, key_channels, 3, padding=1)
        self.mask_encoder = mask_encoder(mask_backbone, norm, width)
        mask_channels = self.mask_encoder.channels[-1]
        same = mask_channels == value_channels
        self.mask_value = nn.Identity() if same else nn.Conv2d(mask_channels, value_channels, 1)
        self.value_fuser = ObjectFusion(value_channels)
        self.deep_update = SensoryUpdate(value_channels, sensory_channels)
        self.summariser = ObjectSummariser(value_channels, queries)
        self.pixel_fuser = PixelFuser(value_channels, sensory_channels)
        self.transformer = ObjectTransformer(value_channels, queries, blocks, heads, feedforward)
        self.decoder = CutieDecoder(value_channels, sensory_channels, self.encoder.channels, decoder_width)
        self.auxiliary = nn.Conv2d(sensory_channels, value_channels + 1, 1)
        nn.init.orthogonal_(self.key.weight)
        assert self.key.bias is not None
        nn.init.zeros_(self.key.bias)

    def encode(self, image: Tensor, keys: Keys | None = None) -> Query:
        """Pixel encoder (section 3.1): encode an image B 3 H W."""
        features = Pyramid(*self.encoder(self.normalise(image)))
        x = self.key_input(features.f16)
        key, shrinkage, selection = project(self.key, x, query_proj(keys)), self.shrinkage(x), self.selection(x)
        return Query(features, key, shrinkage.square() + 1, selection.sigmoid(), x, self.pixel(features.f16))

    def value(
        self, image: Tensor, pixel: Tensor, masks: Masks, sensory: Tensor, deep: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mask encoder and object summaries: values B O hw C, sensory memory B O Cs h w, and summaries B O Q C+1.

        Args:
            image: B 3 H W.
            pixel: its pixel feature B C h w.
            masks: masks of the frame.
            sensory: B O Cs h w.
            deep: whether to update it.
        """
        shared, stem = self.value_fuser.forward_shared(pixel), self.mask_encoder.encode_image(image)

        def encode(masks: Tensor, sensory: Tensor) -> tuple[Tensor, ...]:
            value = self.value_fuser(self.mask_value(self.mask_encoder.encode(stem, masks)), shared)
            sensory = self.deep_update(value, sensory) if deep else sensory
            return flatten_hw(value), sensory, self.summariser(value, F.avg_pool2d(masks[:, :1], self.stride))

        values, sensory, summaries = map_chunks(
            encode, (masks_with_others(masks, clamp=True), sensory), self.object_chunk
        )
        return values, sensory, summaries

    def read(self, query: Query, memory: BucketMemory) -> tuple[Tensor, BucketMemory]:
        """Pixel memory read by XMem's similarity: readouts B O C h w, and the memory with its use."""
        key, selection = flatten_hw(query.key), flatten_hw(query.selection)
        if self.training:
            readout = memory.read_random_frames(key, selection, self.train_refs)
        else:
            readout, memory = memory.read(key, selection, self.top_k)
        return unflatten_hw(readout, query.key), memory

    def transform(self, query: Query, readout: Tensor, state: CutieState) -> tuple[Tensor, Tensor]:
        """Pixel fuser and object transformer (section 3.2), in which the objects of a bucket interact.

        Args:
            query: encoding of the frame.
            readout: B O C h w.
            state: state with the sensory memory, the object memory and the masks of the previous frame.

        Returns:
            object readouts B O C h w, and the log-odds of the masks that the transformer predicts, B O L h w.
        """

        def transform(
            readout: Tensor, sensory: Tensor, probs: Tensor, objects: Tensor, slots: Tensor
        ) -> tuple[Tensor, ...]:
            return self.transform_bucket(query.pixel, readout, sensory, Masks(probs, slots), objects)

        masks = state.masks
        parts = readout, state.sensory, masks.probs, state.objects, masks.slot_mask
        transformed, levels = state.memory.interact(transform, *parts)
        return transformed, levels

    def transform_bucket(
        self, pixel: Tensor, readout: Tensor, sensory: Tensor, masks: Masks, objects: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute `transform` for the objects of one bucket.

        Args:
            pixel: pixel feature B C h w of the frame.
            readout: B O C h w.
            sensory: B O Cs h w.
            masks: masks of the previous frame.
            objects: object memory B O Q C+1.
        """
        shared = self.pixel_fuser.fuser.forward_shared(pixel)
        small = masks_with_others(masks.with_probs(F.avg_pool2d(masks.probs, self.stride)), clamp=True)
        [fused] = map_chunks(lambda *x: self.pixel_fuser(*x, shared), (readout, sensory, small), self.object_chunk)
        return self.transformer(fused, objects, masks.slot_mask)  # type: ignore[no-any-return]

    def decode(self, query: Query, readout: Tensor, sensory: Tensor, update: bool = True) -> tuple[Tensor, Tensor]:
        """Decoder (section 3.1): log-odds B O 4h 4w, and the sensory memory B O Cs h w.

        Args:
            query: encoding of the frame.
            readout: object readouts B O C h w.
            sensory: B O Cs h w.
            update: whether to update it.
        """
        shared = self.decoder.forward_shared(query.features)

        def decode(readout: Tensor, sensory: Tensor) -> tuple[Tensor, ...]:
            return self.decoder(readout, sensory, shared, update)  # type: ignore[no-any-return]

        log_odds, sensory = map_chunks(decode, (readout, sensory), self.object_chunk)
        return log_odds, sensory

    def sensory_log_odds(self, query: Query, sensory: Tensor) -> Tensor:
        """Masks predicted from the sensory memory alone, whose loss trains it: log-odds B O 1 h w."""
        weights = torch.unflatten(self.auxiliary(sensory.flatten(0, 1).to(query.pixel.dtype)), 0, sensory.shape[:2])
        return (weights[:, :, :-1] * query.pixel.unsqueeze(1)).sum(2, keepdim=True) + weights[:, :, -1:]
