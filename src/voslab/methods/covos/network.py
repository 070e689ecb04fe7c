"""CoVOS (Xu and Yao 2022): any base model on I- and P-frames; on B-frames the codec's own motion, mended and refined.

Shapes: B clips, O objects, C channels, h w cells of a grid at a quarter of the frame's size. Frames come in decode
order.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import Frame, LowLevel, Masks, Segmenter, State, state
from voslab.core.segmenter import Padding
from voslab.methods.covos.codec_fields import STRIDE, Fields, is_key, to_quarter
from voslab.methods.covos.correction import Corrected, binarise, correct
from voslab.methods.covos.decoder import Decoder
from voslab.methods.covos.propagation import Propagated, aggregate_probs, reference_ids, warp
from voslab.methods.covos.reference_buffer import BufferedFrame, nearest_key, reduce, remember, retain, with_background
from voslab.nn.aggregation import aggregate_product
from voslab.nn.normalise import Normalise
from voslab.nn.resnet import Norm, ResNet

Features = Literal["own", "base"]


@state
class CoVOSState(State):
    """What a video's next frame may need.

    Attributes:
        base: the base's own state, as of the last key frame.
        slot_mask: B O, bool, slots in use.
        pictures: in decode order.
    """

    base: State
    slot_mask: Tensor
    pictures: list[BufferedFrame]


class CoVOS(nn.Module):
    """The wrapper; a `Segmenter`. The base and F are frozen: only the decoder trains, and only it changes with `train`.

    Args:
        base: runs on key frames; its memory interval counts them.
        features: F's, or the `base`'s own where it is `LowLevel`, which ties the decoder to that base.
        backbone: of F, up to its first layer; the paper's is `resnet50`.
        norm: of F.
        width: of F; 64 is the published one.
        bidirectional: both references are averaged; else the past alone where there are two.
        multi_hop: B-frames can be referred to; else a list that points to one counts as unused.
        bilinear: warping between cells; else the nearest.
        hard: the base's masks are carried as labels; else as probabilities.
        confidence: whether carried masks are weighted by it (Eq. 8).
        correction: whether cells of large residual are matched with the nearest key frame.
        threshold: τ, of a residual in [-1, 1].
        dilation: of the foreground within which cells are corrected, in cells.
        clip: whether corrected masks are clipped to 1.
        refine: whether the decoder does; else the corrected masks are the result.
        buffer: pictures held beside the two newest key frames, where nobody says by `keep` which are still referred to.

    Raises:
        ValueError: for features that the base has not, or a negative number.
    """

    padding: Padding
    stages: ClassVar[tuple[str, ...]] = ("encode", "propagate", "correct", "decode")
    optional_modules: ClassVar[tuple[str, ...]] = ("encoder.", "decoder.", "decoder.confidence.")
    """Parts that a switch leaves out; weights that have them are taken without."""

    def __init__(
        self,
        base: Segmenter[Any],
        features: Features = "own",
        backbone: str = "resnet50",
        norm: Norm = "batch",
        width: int = 64,
        bidirectional: bool = True,
        multi_hop: bool = True,
        bilinear: bool = False,
        hard: bool = True,
        confidence: bool = True,
        correction: bool = True,
        threshold: float = 0.05,
        dilation: int = 8,
        clip: bool = False,
        refine: bool = True,
        buffer: int = 16,
    ) -> None:
        super().__init__()
        if min(threshold, dilation, buffer) < 0:
            raise ValueError(f"threshold={threshold}, dilation={dilation}, buffer={buffer}: must not be negative")
        if features not in ("own", "base"):
            raise ValueError(f"features={features}: must be 'own' or 'base'")
        if features == "base" and not isinstance(base, LowLevel):
            raise ValueError(f"features=base: a {type(base).__name__} has none to offer")
        self.base = base
        self.stride = math.lcm(base.stride, STRIDE)
        self.padding = base.padding
        self.bidirectional = bidirectional
        self.multi_hop = multi_hop
        self.bilinear = bilinear
        self.hard = hard
        self.correction = correction
        self.threshold = threshold
        self.dilation = dilation
        self.clip = clip
        self.buffer = buffer
        self.normalise = Normalise()
        needed = correction or refine
        self.encoder = ResNet(backbone, norm, width, layers=1) if needed and features == "own" else None
        for frozen in self._frozen():
            frozen.requires_grad_(False).eval()
        self.decoder = Decoder(self._channels(), confidence) if refine else None
        self.train()

    def begin(self, frame: Frame, masks: Masks) -> CoVOSState:
        """See `Segmenter.begin`. The first frame is a key frame, whatever its type."""
        base = self.base.begin(frame, masks)
        return CoVOSState(base, masks.slot_mask, [self._key(frame, with_background(masks))])

    def step(self, frame: Frame, state: CoVOSState) -> tuple[Tensor, CoVOSState]:
        """See `Segmenter.step`. A frame without codec data is a key frame."""
        if is_key(frame):
            logits, base = self.base.step(frame, state.base)
            key = self._key(frame, logits.float().softmax(1))
            return logits, CoVOSState(base, state.slot_mask, remember(state.pictures, key, self.buffer))
        if not state.slot_mask.shape[1]:
            nothing = frame.image.new_zeros(frame.image.shape[0], 0, *frame.image.shape[-2:])
            return aggregate_product(nothing, state.slot_mask), state
        propagated, state = self.propagate(frame, state)
        return self.decode(propagated, state.slot_mask), state

    def add(self, frame: Frame, masks: Masks, state: CoVOSState) -> CoVOSState:
        """See `Segmenter.add`. Masks are given on key frames: whoever schedules the frames makes theirs one.

        Raises:
            ValueError: if the base did not look at the frame.
        """
        last = state.pictures[-1]
        if last.index != frame.index or not last.key:
            raise ValueError(f"frame {frame.index}: objects were added, but it is no key frame")
        base = self.base.add(frame, masks, state.base)
        new = Masks(reduce(with_background(masks), self.hard), masks.slot_mask)
        joined = Masks(last.probs, state.slot_mask).append(new)
        return CoVOSState(base, joined.slot_mask, [*state.pictures[:-1], replace(last, probs=joined.probs)])

    def retain(self, state: CoVOSState, indices: Collection[int]) -> CoVOSState:
        """Forget pictures that no later one refers to; the two newest key frames stay in any case.

        Args:
            state: consumed.
            indices: presentation indices of those that may still be referred to.
        """
        return replace(state, pictures=retain(state.pictures, indices))

    def encode(self, frame: Frame) -> Tensor:
        """F (section 4.1): V, B C h w."""
        if self.encoder is None:
            assert isinstance(self.base, LowLevel), "the constructor refuses other bases"
            features = self.base.features(frame)
        else:
            features = self.encoder(self.normalise(frame.image))[0]
        # Warping reads all channels of a cell at a time.
        return features.contiguous(memory_format=torch.channels_last)

    # Nothing in here trains, so a decoder can be trained from what it returns.
    @torch.no_grad()
    def propagate(self, frame: Frame, state: CoVOSState) -> tuple[Propagated, CoVOSState]:
        """Soft propagation (section 4.1) and correction (section 4.2) of a frame that is no key frame."""
        fields = to_quarter(frame)
        state = self._featured(frame, fields, state)
        sources = [picture for picture in state.pictures if picture.key or self.multi_hop]
        objects = state.slot_mask.shape[1]
        probs = self._warp({picture.index: picture.pad_objects(objects) for picture in sources}, fields)
        known = {picture.index: picture.features for picture in sources if picture.features is not None}
        carried = self._warp(known, fields) if self._compares else None
        features = self.encode(frame) if self.decoder is not None or self.correction else None
        corrected = self.correct(frame, fields, features, probs, state)
        if self.multi_hop:
            picture = BufferedFrame(frame.index, False, probs, carried)
            state = replace(state, pictures=remember(state.pictures, picture, self.buffer))
        return Propagated(features, carried, probs, *corrected), state

    def correct(
        self, frame: Frame, fields: Fields, features: Tensor | None, probs: Tensor, state: CoVOSState
    ) -> Corrected:
        """Residual-based correction (section 4.2) of carried masks B O h w."""
        if not self.correction or fields.residual is None:
            return Corrected(probs, torch.zeros_like(probs[:, :1], dtype=torch.bool))
        key = nearest_key(state.pictures, frame.index)
        assert features is not None, "a correction compares features"
        assert key.features is not None, "they were computed before"
        large = binarise(fields.residual, self.threshold)
        reference = (key.pad_objects(probs.shape[1]), key.features)
        return correct(probs, state.slot_mask, large, features, *reference, self.dilation, self.clip)

    def decode(self, propagated: Propagated, slot_mask: Tensor) -> Tensor:
        """Decoder (Eq. 9) and ψ: logits B (O+1) H W."""
        corrected = aggregate_probs(propagated.corrected, slot_mask)
        if self.decoder is None:
            probs = F.interpolate(corrected[:, 1:], scale_factor=STRIDE, mode="bilinear", align_corners=False)
            return aggregate_product(probs.logit(), slot_mask)
        assert propagated.features is not None, "a decoder sees features"
        weight = self.decoder.weigh(propagated.features, propagated.carried)
        probs = aggregate_probs(propagated.probs, slot_mask)
        return aggregate_product(self.decoder.log_odds(probs, weight, propagated.features, corrected), slot_mask)

    def train(self, mode: bool = True) -> CoVOS:
        """Training mode, of the decoder alone."""
        super().train(mode)
        for frozen in self._frozen():
            frozen.eval()
        return self

    @property
    def _compares(self) -> bool:
        """Whether features are carried."""
        return self.decoder is not None and self.decoder.confidence is not None

    def _frozen(self) -> list[nn.Module]:
        return [part for part in (self.base, self.encoder) if isinstance(part, nn.Module)]

    def _channels(self) -> int:
        """Of F's features."""
        if self.encoder is not None:
            return int(self.encoder.channels[0])
        assert isinstance(self.base, LowLevel), "the constructor refuses other bases"
        features: Tensor = self.base.features(Frame(0, torch.zeros(1, 3, self.stride, self.stride)))
        return features.shape[1]

    def _key(self, frame: Frame, probabilities: Tensor) -> BufferedFrame:
        return BufferedFrame(frame.index, True, reduce(probabilities, self.hard), image=frame.image)

    def _warp(self, pictures: dict[int, Tensor], fields: Fields) -> Tensor:
        return warp(pictures, fields.motion, fields.references, self.bilinear, self.bidirectional)

    def _featured(self, frame: Frame, fields: Fields, state: CoVOSState) -> CoVOSState:
        """With the features of all key frames that this frame asks for."""
        wanted = reference_ids(fields.references) if self._compares else set()
        if self.correction or self._compares:
            wanted.add(nearest_key(state.pictures, frame.index).index)
        pictures = [
            replace(picture, features=self.encode(Frame(picture.index, picture.image)), image=None)
            if picture.index in wanted and picture.image is not None
            else picture
            for picture in state.pictures
        ]
        return replace(state, pictures=pictures)
