"""FRTM (Robinson et al. 2020): a target model per object, fitted to its first frame, and a refinement network.

Shapes: B clips, O objects, K samples, C channels. The encoder runs once per frame, target model and refiner per object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from voslab.core import Frame, Masks, Segmenter, generator
from voslab.core.parameters import Count, Range
from voslab.core.segmenter import Padding
from voslab.methods.frtm.augmentation import augmented
from voslab.methods.frtm.merge import softmax_of_odds
from voslab.methods.frtm.refiner import Refiner
from voslab.methods.frtm.state import FRTMState
from voslab.methods.frtm.target import Fit, Target, fit_target, memorise
from voslab.nn.aggregation import aggregate_min
from voslab.nn.backbone import Norm, low_level_features
from voslab.nn.blocks import in_chunks
from voslab.nn.encoders import frame_encoder
from voslab.nn.normalise import Normalise
from voslab.nn.precision import at_least_float32

F16 = 2
"""Index of the features that target models see."""
Share = Annotated[float, Range(0, 1)]


class FRTM(Segmenter[FRTMState]):
    """FRTM as a `Segmenter`. The encoder is frozen.

    Target models are fitted in full precision, without autograd: nothing that requires gradients is left behind.

    Args:
        backbone: ResNet or EfficientNet-Lite, to stride 32; `resnet101` and `resnet18` in the paper.
        norm: normalisation of the encoder.
        width: width of the encoder; 64 as published.
        refine_width: channels of the refiner; 64 as published.
        channels: channels of the target models.
        augmentations: number of samples of an object's first frame: itself and augmented ones.
        fit_steps: number of steps of conjugate gradients in each Gauss-Newton step of the first fit.
        update_steps: the same in an update of the filter.
        memory_size: number of samples in the memory of an object.
        update_every: number of frames between two updates.
        rate: weight of the newest frame in the memory.
        share: share of the error that an object gets if it is smaller than this share of the image.
        forgetting: how much of the last search direction is forgotten between Gauss-Newton steps.
        train_channels: `channels` in training, where a fit weighs all pixels equally and nothing is updated.
        train_augmentations: `augmentations` in training.
        seed: of the initial target models and the augmentations, which are the same for all objects.
        object_chunk: number of objects that are refined at a time; bounds memory only.

    Raises:
        ValueError: for steps that are not positive.
    """

    stride = 1
    padding: Padding = "mean"
    features = low_level_features
    stages: ClassVar[tuple[str, ...]] = ("memorise", "encode", "classify", "refine")
    unpublished_modules: ClassVar[tuple[str, ...]] = ("encoder.",)

    def __init__(
        self,
        backbone: str = "resnet101",
        norm: Norm = "batch",
        width: Count = 64,
        refine_width: Count = 64,
        channels: Count = 96,
        augmentations: Count = 5,
        fit_steps: Sequence[int] = (5, 10, 10, 10, 10),
        update_steps: Sequence[int] = (10,),
        memory_size: Count = 80,
        update_every: Count = 8,
        rate: Share = 0.1,
        share: Share = 0.1,
        forgetting: Annotated[float, Range(0, 1e6)] = 750.0,
        train_channels: Count = 32,
        train_augmentations: Count = 15,
        seed: Annotated[int, Range(0, 2**31 - 1)] = 0,
        object_chunk: Count = 4,
    ) -> None:
        super().__init__()
        if min(*fit_steps, *update_steps, 1) < 1 or not fit_steps:
            raise ValueError(f"fit_steps={list(fit_steps)}, update_steps={list(update_steps)}: must be at least 1 each")
        if not 0 < rate < 1 or not 0 < share < 1:
            raise ValueError(f"rate={rate}, share={share}: must be above 0 and below 1")
        self.fit = Fit(fit_steps, update_steps, memory_size, update_every, rate, share, forgetting=forgetting)
        self.train_fit = replace(self.fit, share=None, regularisation=(1e-5, 1e-4), forgetting=75.0)
        self.channels, self.train_channels = channels, train_channels
        self.augmentations, self.train_augmentations = augmentations, train_augmentations
        self.seed = seed
        self.object_chunk = object_chunk
        self.encoder = frame_encoder(backbone, norm, width, layers=4).requires_grad_(False)
        self.mean = self.encoder.mean
        self.normalise = Normalise(self.mean, self.encoder.std)
        self.refiner = Refiner(self.encoder.channels, refine_width)
        self.train()

    def begin(self, frame: Frame, masks: Masks) -> FRTMState:
        """See `Segmenter.begin`."""
        f16 = frame.image.new_zeros(len(frame.image), 0, 1, 1)
        none = Masks(masks.probs[:, :0], masks.slot_mask[:, :0])
        empty: list[list[bool]] = [[] for _ in range(len(frame.image))]
        state = FRTMState([[] for _ in empty], f16, none.probs, none, empty, empty)
        return self.add(frame, masks, state)

    def step(self, frame: Frame, state: FRTMState) -> tuple[Tensor, FRTMState]:
        """See `Segmenter.step`. In training, the logits of a single object are the refiner's."""
        state = self.memorise(state)
        slot_mask, size = state.masks.slot_mask, frame.image.shape[-2:]
        none = [[False] * slot_mask.shape[1] for _ in slot_mask]
        if not slot_mask.shape[1]:
            return aggregate_min(state.probs, slot_mask), state
        features = self.encode(frame.image)
        f16 = at_least_float32(features[F16])
        log_odds = at_least_float32(self.refine(features, self.classify(f16, state), (size[0], size[1])))
        probs = log_odds.sigmoid()
        soft, stored = softmax_of_odds(probs.detach(), slot_mask)
        # With one object, these have the refiner's log-odds as their difference.
        logits = aggregate_min(log_odds / 2 if self.training else soft.logit(), slot_mask)
        return logits, FRTMState(state.targets, f16, probs.detach(), Masks(stored, slot_mask), none, none)

    def add(self, frame: Frame, masks: Masks, state: FRTMState, known: Masks | None = None) -> FRTMState:
        """See `Segmenter.add`. A target model is fitted to this frame for each new object."""
        old, given = Masks(state.probs, state.masks.slot_mask), state.given
        if known is not None:
            changed = ((known.probs > 0.5) != (state.masks.probs > 0.5)).flatten(2).any(2)
            old, given = (
                known.with_probs(torch.where(changed[:, :, None, None], known.probs, old.probs)),
                changed.tolist(),
            )
        joined = old.append(masks)
        _, stored = softmax_of_odds(joined.probs, joined.slot_mask)
        if known is not None:
            known = known.append(masks)
            # A given mask is stored as it is.
            kept = F.pad(changed, (0, masks.probs.shape[1]))[:, :, None, None]
            stored = torch.where(kept, known.probs, stored)
        merged = Masks(stored, joined.slot_mask)
        labels = joined.probs
        targets = [[*models, *[None] * masks.probs.shape[1]] for models in state.targets]
        started = [[False] * len(models) for models in targets]
        for clip, slot in self._missing(targets, joined.slot_mask):
            targets[clip][slot] = self.fit_object(frame.image[clip], labels[clip, slot])
            started[clip][slot] = True
        given = [[*flags, *[False] * masks.probs.shape[1]] for flags in given]
        return FRTMState(targets, state.f16, joined.probs, merged, started, given)

    def encode(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode an image B 3 H W to features at strides 4, 8, 16 and 32."""
        return self.encoder(self.normalise(image))  # type: ignore[no-any-return]

    @torch.no_grad()
    def fit_object(self, image: Tensor, mask: Tensor) -> Target:
        """Fit a target model (section 3.2) to an image 3 H W and the mask H W of an object, in [0, 1]."""
        fit, count = (self.train_fit, self.train_augmentations) if self.training else (self.fit, self.augmentations)
        images, labels = self.augment(image, mask, count)
        # One by one, so that memory does not depend on their number.
        samples = torch.cat([self.encode(each.unsqueeze(0))[F16] for each in images])
        with torch.autocast(image.device.type, enabled=False):
            features, labels = at_least_float32(samples), at_least_float32(labels)
            project, kernel = (each.to(features) for each in self.initial_tensors(samples.shape[1]))
            return fit_target(features, labels, project, kernel, fit, update=not self.training)

    def augment(self, image: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return up to `count` samples of the first frame of an object, the frame first: K 3 H W and K H W."""
        drawn = generator(self.seed, "augmentation")
        pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
        found = list(augmented(pixels, (mask > 0.5).cpu().numpy(), count - 1, drawn))
        images = [torch.from_numpy(each).to(image).permute(2, 0, 1) / 255 for each, _ in found]
        return torch.stack([image, *images]), torch.stack(
            [mask, *(torch.from_numpy(each).to(mask) for _, each in found)]
        )

    def initial_tensors(self, inputs: int) -> tuple[Tensor, Tensor]:
        """Draw projection and filter of a new target model, uniformly in ±1/√n for n inputs of a sum."""
        drawn, channels = generator(self.seed, "target"), self.train_channels if self.training else self.channels
        shapes = ((channels, inputs, 1, 1), (1, channels, 3, 3))
        project, kernel = (
            torch.from_numpy(drawn.uniform(-1, 1, shape) / np.sqrt(np.prod(shape[1:]))) for shape in shapes
        )
        return project, kernel

    @torch.no_grad()
    def classify(self, f16: Tensor, state: FRTMState) -> Tensor:
        """Compute the scores B O 1 h w of the target models; 0 for slots that are not in use."""
        scores = f16.new_zeros(*state.masks.slot_mask.shape, 1, *f16.shape[-2:])
        with torch.autocast(f16.device.type, enabled=False):
            for clip, models in enumerate(state.targets):
                for slot, target in enumerate(models):
                    if target is not None:
                        scores[clip, slot] = target.scores(f16[clip : clip + 1])[0]
        return scores

    def refine(self, features: Sequence[Tensor], scores: Tensor, size: tuple[int, int]) -> Tensor:
        """Refine scores B O 1 h w to log-odds B O H W (section 3.3)."""
        shared = self.refiner.forward_shared(features)

        def refine(part: Tensor) -> Tensor:
            return self.refiner(part, shared, size)  # type: ignore[no-any-return]

        return in_chunks(refine, scores, self.object_chunk)

    @torch.no_grad()
    def memorise(self, state: FRTMState) -> FRTMState:
        """Memorise the newest frame for objects that did not begin on it, and update due filters (section 3.2.3)."""
        if self.training:
            return state
        targets = [[*models] for models in state.targets]
        in_use = state.masks.slot_mask.tolist()
        with torch.autocast(state.f16.device.type, enabled=False):
            for clip, models in enumerate(targets):
                for slot, target in enumerate(models):
                    if target is not None and in_use[clip][slot] and not state.started[clip][slot]:
                        label = state.masks.probs[clip, slot]
                        given = state.given[clip][slot]
                        models[slot] = memorise(target, state.f16[clip : clip + 1], label, self.fit, given)
        return replace(state, targets=targets)

    def train(self, mode: bool = True) -> FRTM:
        """Set the training mode of the refiner; the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    @staticmethod
    def _missing(targets: Sequence[Sequence[Target | None]], slot_mask: Tensor) -> list[tuple[int, int]]:
        """Return clip and slot of the objects in use that have no target model yet."""
        in_use = slot_mask.tolist()
        return [
            (clip, slot)
            for clip, models in enumerate(targets)
            for slot, target in enumerate(models)
            if target is None and in_use[clip][slot]
        ]
