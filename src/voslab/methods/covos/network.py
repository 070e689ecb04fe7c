"""CoVOS (Xu and Yao 2022): a base model on I- and P-frames, masks propagated by motion vectors on B-frames.

Shapes: B clips, O objects, C channels, h w cells of a grid at a quarter of the frame's size. Frames come in decode
order.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import Frame, HoldsFeatures, LowLevel, Masks, Segmenter, State, state_dataclass
from voslab.core.parameters import Count, Range
from voslab.core.warp import Combine, Rounding, warp
from voslab.methods.covos.codec_fields import STRIDE, Fields, is_key, to_quarter
from voslab.methods.covos.correction import MAX_SCALE, REFERENCES, Corrected, Reference, binarise, correct
from voslab.methods.covos.decoder import Decoder
from voslab.methods.covos.propagation import Propagated, aggregate_probs, reference_ids
from voslab.methods.covos.reference_buffer import BufferedFrame, nearest_key, reduce, remember, retain, with_background
from voslab.nn.aggregation import aggregate_product
from voslab.nn.backbone import Norm
from voslab.nn.boxes import mask_box
from voslab.nn.encoders import frame_encoder
from voslab.nn.normalise import Normalise

Features = Literal["own", "base"]


@state_dataclass
class CoVOSState(State):
    """State of CoVOS.

    Attributes:
        base: state of the base model after the last key frame.
        slot_mask: B O, bool, slots in use.
        buffered: frames in decode order.
    """

    base: State
    slot_mask: Tensor
    buffered: list[BufferedFrame]


class CoVOS(Segmenter[CoVOSState]):
    """Segmenter that propagates masks of its base along motion vectors. Base and encoder F are frozen.

    Args:
        base: runs on key frames; its memory interval counts them.
        features: `own` for an encoder F, or `base` for those of a `LowLevel` base, which ties the decoder to it.
        backbone: ResNet or EfficientNet-Lite of F, up to its first layer; `resnet50` in the paper.
        norm: normalisation of F.
        width: width of F; 64 in the paper.
        bidirectional: average both references; otherwise use the past one where there are two.
        multi_hop: B-frames can be references; otherwise a list that points to one counts as unused.
        bilinear: interpolate between cells when warping; otherwise read the nearest cell.
        hard_labels: propagate masks of key frames as labels; otherwise as probabilities.
        confidence: weight propagated masks by their confidence (Eq. 8).
        correction: match cells with a large residual with the nearest key frame.
        threshold: τ, for a residual in [-1, 1].
        dilation: radius in cells by which the foreground is dilated before cells in it are corrected.
        clamp: clamp corrected masks to [0, 1].
        reference: positions of the key frame that are matched: its `foreground`, as published, or `all` (Eq. 1).
        scale: factor of the similarities that are matched; None for 1/√C, as published. Eq. 1 has 1.
        refine: use the decoder; otherwise the corrected masks are the result.
        region: cells around the masks in which the decoder runs, everything else is background; None: the whole frame.
        buffer: frames kept besides the two newest key frames, unless `retain` says which are referenced.

    Raises:
        ValueError: for features that the base does not offer, or a negative number.
    """

    base: Segmenter[Any]
    codec_stride: ClassVar[int] = STRIDE
    stages: ClassVar[tuple[str, ...]] = ("encode", "propagate", "correct", "decode")
    optional_modules: ClassVar[tuple[str, ...]] = ("encoder.", "decoder.", "decoder.confidence.")
    """Submodules that a switch omits; their weights in a checkpoint are then ignored."""

    def __init__(
        self,
        base: Segmenter[Any],
        features: Features = "own",
        backbone: str = "resnet50",
        norm: Norm = "batch",
        width: Count = 64,
        bidirectional: bool = True,
        multi_hop: bool = True,
        bilinear: bool = False,
        hard_labels: bool = True,
        confidence: bool = True,
        correction: bool = True,
        threshold: float = 0.05,
        dilation: Annotated[int, Range(0, 1024)] = 8,
        clamp: bool = False,
        reference: Reference = "foreground",
        scale: float | None = None,
        refine: bool = True,
        region: Annotated[int, Range(0, 1024)] | None = None,
        buffer: int = 16,
    ) -> None:
        super().__init__()
        if min(threshold, dilation, buffer, region or 0) < 0:
            numbers = f"threshold={threshold}, dilation={dilation}, buffer={buffer}, region={region}"
            raise ValueError(f"{numbers}: must not be negative")
        if reference not in REFERENCES:
            raise ValueError(f"reference={reference}: choose from {', '.join(REFERENCES)}")
        if scale is not None and not 0 < scale <= MAX_SCALE:
            raise ValueError(f"scale={scale}: must be above 0 and at most {MAX_SCALE:g}")
        if features not in ("own", "base"):
            raise ValueError(f"features={features}: must be 'own' or 'base'")
        if features == "base" and not isinstance(base, LowLevel):
            raise ValueError(f"features=base: a {type(base).__name__} has none to offer")
        self.base = base
        self.stride = math.lcm(base.stride, STRIDE)
        self.padding = base.padding
        self.mean = base.mean
        self.bidirectional = bidirectional
        self.multi_hop = multi_hop
        self.bilinear = bilinear
        self.hard_labels = hard_labels
        self.correction = correction
        self.threshold = threshold
        self.dilation = dilation
        self.clamp = clamp
        self.reference: Reference = reference
        self.scale = scale
        self.region = region
        self.buffer = buffer
        needs_features = correction or refine
        own = frame_encoder(backbone, norm, width, layers=1) if needs_features and features == "own" else None
        self.encoder = own
        self.normalise = Normalise() if own is None else Normalise(own.mean, own.std)
        for frozen in self._frozen():
            frozen.requires_grad_(False).eval()
        self.decoder = Decoder(self._channels(), confidence) if refine else None
        self.train()

    def begin(self, frame: Frame, masks: Masks) -> CoVOSState:
        """See `Segmenter.begin`. The first frame is a key frame, whatever its type."""
        base = self.base.begin(frame, masks)
        return CoVOSState(base, masks.slot_mask, [self._key(frame, with_background(masks), base)])

    def step(self, frame: Frame, state: CoVOSState) -> tuple[Tensor, CoVOSState]:
        """See `Segmenter.step`. A frame without codec data is a key frame."""
        if is_key(frame):
            logits, base = self.base.step(frame, state.base)
            key = self._key(frame, logits.float().softmax(1), base)
            return logits, CoVOSState(base, state.slot_mask, remember(state.buffered, key, self.buffer))
        if not state.slot_mask.shape[1]:
            nothing = frame.image.new_zeros(frame.image.shape[0], 0, *frame.image.shape[-2:])
            return aggregate_product(nothing, state.slot_mask), state
        propagated, state = self.propagate(frame, state)
        return self.decode(propagated, state.slot_mask), state

    def add(self, frame: Frame, masks: Masks, state: CoVOSState, known: Masks | None = None) -> CoVOSState:
        """See `Segmenter.add`. Masks can be added on key frames only; the engine makes their frames key frames.

        Raises:
            ValueError: if the frame is no key frame.
        """
        last = state.buffered[-1]
        if last.index != frame.index or not last.key:
            raise ValueError(f"frame {frame.index}: objects can be added on key frames only")
        base = self.base.add(frame, masks, state.base, known)
        old, earlier = Masks(last.probs, state.slot_mask), state.buffered[:-1]
        if known is not None:
            old, earlier = self._reduced(known), [entry.without_unused(known.slot_mask) for entry in earlier]
        joined = old.append(self._reduced(masks))
        return CoVOSState(base, joined.slot_mask, [*earlier, replace(last, probs=joined.probs)])

    def retain(self, state: CoVOSState, indices: Collection[int]) -> CoVOSState:
        """Drop the frames that no later one refers to; the two newest key frames always stay.

        Args:
            state: consumed.
            indices: presentation indices of the frames that may still be referenced.
        """
        return replace(state, buffered=retain(state.buffered, indices))

    def encode(self, frame: Frame) -> Tensor:
        """Compute the features V of a frame (section 4.1), B C h w, channels-last."""
        if self.encoder is None:
            assert isinstance(self.base, LowLevel), "the constructor refuses other bases"
            features = self.base.features(frame)
        else:
            features = self.encoder(self.normalise(frame.image))[0]
        return _cell_by_cell(features)

    # Without parameters to train: the decoder trains on cached results.
    @torch.no_grad()
    def propagate(self, frame: Frame, state: CoVOSState) -> tuple[Propagated, CoVOSState]:
        """Propagate masks to a B-frame (section 4.1) and correct them (section 4.2); consumes `state`."""
        fields = to_quarter(frame)
        state = self._featured(frame, fields, state)
        sources = [entry for entry in state.buffered if entry.key or self.multi_hop]
        objects = state.slot_mask.shape[1]
        probs = self._warp({entry.index: entry.pad_objects(objects) for entry in sources}, fields)
        known = {entry.index: entry.features for entry in sources if entry.features is not None}
        warped = self._warp(known, fields) if self._compares else None
        features = self.encode(frame) if self.decoder is not None or self.correction else None
        corrected = self.correct(frame, fields, features, probs, state)
        if self.multi_hop:
            entry = BufferedFrame(frame.index, False, probs, warped)
            state = replace(state, buffered=remember(state.buffered, entry, self.buffer))
        return Propagated(features, warped, probs, *corrected), state

    def correct(
        self, frame: Frame, fields: Fields, features: Tensor | None, probs: Tensor, state: CoVOSState
    ) -> Corrected:
        """Correct propagated masks B O h w by the residual (section 4.2)."""
        if not self.correction or fields.residual is None:
            return Corrected(probs, torch.zeros_like(probs[:, :1], dtype=torch.bool))
        key = nearest_key(state.buffered, frame.index)
        assert features is not None, "the correction compares features"
        assert key.features is not None, "`_featured` computes them"
        large = binarise(fields.residual, self.threshold)
        matched = (key.pad_objects(probs.shape[1]), key.features)
        return correct(
            *(probs, state.slot_mask, large, features, *matched, self.dilation, self.clamp),
            reference=self.reference,
            scale=self.scale,
        )

    def decode(self, propagated: Propagated, slot_mask: Tensor) -> Tensor:
        """Decode (Eq. 9) and aggregate propagated masks: logits B (O+1) H W."""
        corrected = aggregate_probs(propagated.corrected, slot_mask)
        if self.decoder is None:
            probs = F.interpolate(corrected[:, 1:], scale_factor=STRIDE, mode="bilinear", align_corners=False)
            return aggregate_product(probs.logit(), slot_mask)
        assert propagated.features is not None, "a decoder sees features"
        features, warped, probs = propagated.features, propagated.warped, aggregate_probs(propagated.probs, slot_mask)
        if self.region is None:
            odds = self.decoder.log_odds(probs, self.decoder.weigh(features, warped), features, corrected)
        else:
            # Corrected masks hold the propagated ones.
            box = mask_box(propagated.corrected * slot_mask[:, :, None, None] > 0, self.region)
            odds = self.decoder.log_odds_in(box, features, warped, probs, corrected)
        return aggregate_product(odds, slot_mask)

    def train(self, mode: bool = True) -> CoVOS:
        """Set the training mode of the decoder; base and encoder stay in evaluation mode."""
        super().train(mode)
        for frozen in self._frozen():
            frozen.eval()
        return self

    @property
    def _compares(self) -> bool:
        """Whether features are warped."""
        return self.decoder is not None and self.decoder.confidence is not None

    def _frozen(self) -> list[nn.Module]:
        return [part for part in (self.base, self.encoder) if isinstance(part, nn.Module)]

    def _channels(self) -> int:
        """Number of channels of the features."""
        if self.encoder is not None:
            return int(self.encoder.channels[0])
        assert isinstance(self.base, LowLevel), "the constructor refuses other bases"
        features: Tensor = self.base.features(Frame(0, torch.zeros(1, 3, self.stride, self.stride)))
        return features.shape[1]

    def _key(self, frame: Frame, probabilities: Tensor, base: State) -> BufferedFrame:
        """Buffer a key frame, which the base with state `base` has processed."""
        probs = reduce(probabilities, self.hard_labels)
        if self.encoder is None and isinstance(self.base, HoldsFeatures):
            held = self.base.held_features(base)
            if held is not None:
                return BufferedFrame(frame.index, True, probs, features=_cell_by_cell(held))
        return BufferedFrame(frame.index, True, probs, image=frame.image)

    def _reduced(self, masks: Masks) -> Masks:
        return masks.with_probs(reduce(with_background(masks), self.hard_labels))

    def _warp(self, values: dict[int, Tensor], fields: Fields) -> Tensor:
        rounding: Rounding = "bilinear" if self.bilinear else "half_up"
        combine: Combine = "mean" if self.bidirectional else "past"
        return warp(values, fields.motion, fields.references, rounding, combine).values

    def _featured(self, frame: Frame, fields: Fields, state: CoVOSState) -> CoVOSState:
        """Compute the missing features of the key frames that this frame refers to."""
        required = reference_ids(fields.references) if self._compares else set()
        if self.correction or self._compares:
            required.add(nearest_key(state.buffered, frame.index).index)
        buffered = [
            replace(entry, features=self.encode(Frame(entry.index, entry.image)), image=None)
            if entry.index in required and entry.image is not None
            else entry
            for entry in state.buffered
        ]
        return replace(state, buffered=buffered)


def _cell_by_cell(features: Tensor) -> Tensor:
    """Return features channels-last, as warping reads all channels of a cell at a time."""
    return features.contiguous(memory_format=torch.channels_last)
