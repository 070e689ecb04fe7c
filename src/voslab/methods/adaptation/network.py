"""Key adaptation (Dubuisson et al.): tunes the key projections of a base on the first frame of each video.

Shapes: B clips, O objects, C channels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from voslab.core import Frame, KeyInputs, KeyMatching, LowLevel, Masks, Segmenter, State, state_dataclass
from voslab.core.segmenter import Comparison
from voslab.methods.adaptation.copies import augmented
from voslab.methods.adaptation.descent import clock, tune
from voslab.methods.adaptation.tuning import Adaptation, Grid, Keep, Loss, Losses, Projections, Reduction, Tuning

_DEFAULTS = Tuning()


@state_dataclass
class AdaptedState(State):
    """State of the adaptation wrapper.

    Attributes:
        base: state of the base, with the adapted keys.
        adaptations: records: the first adaptation and, with `readapt`, one for each frame on which objects were added.
    """

    base: State
    adaptations: list[Adaptation]


class Adapted(Segmenter[AdaptedState]):
    """Segmenter that adapts the keys of its base to each video. It has no weights and is inactive in training mode.

    Args:
        base: a `KeyMatching` segmenter.
        steps, lr, backtrack, projections, losses, alpha, alpha_bounds, loss, border, reduction, masks, scale,
            scale_read, normalize, exclude_self, keep_norm, keep, hold_out, copies, stop, patience: see `Tuning`.
        readapt: whether objects that appear later tune the query projection again; keys in the memory do not change.
            Otherwise only the first objects of a video are used.

    Raises:
        ValueError: if the base has no keys to tune, or a number is out of range.
    """

    base: KeyMatching[Any]

    def __init__(
        self,
        base: Segmenter[Any],
        steps: int = _DEFAULTS.steps,
        lr: float = _DEFAULTS.lr,
        backtrack: bool = _DEFAULTS.backtrack,
        projections: Projections = _DEFAULTS.projections,
        losses: Losses = _DEFAULTS.losses,
        alpha: float | None = _DEFAULTS.alpha,
        alpha_bounds: tuple[float, float] = _DEFAULTS.alpha_bounds,
        loss: Loss = _DEFAULTS.loss,
        border: float = _DEFAULTS.border,
        reduction: Reduction = _DEFAULTS.reduction,
        masks: Grid = _DEFAULTS.masks,
        scale: float | None = _DEFAULTS.scale,
        scale_read: bool = _DEFAULTS.scale_read,
        normalize: bool = _DEFAULTS.normalize,
        exclude_self: bool = _DEFAULTS.exclude_self,
        keep_norm: bool = _DEFAULTS.keep_norm,
        keep: Keep = _DEFAULTS.keep,
        hold_out: float = _DEFAULTS.hold_out,
        copies: int = _DEFAULTS.copies,
        stop: float = _DEFAULTS.stop,
        patience: int | None = _DEFAULTS.patience,
        readapt: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(base, KeyMatching):
            raise ValueError(f"a {type(base).__name__} compares no keys: there is nothing to adapt")
        if base.comparison is None:
            raise ValueError(f"this {type(base).__name__}'s affinity is no distribution: its keys cannot be adapted")
        if base.comparison == "linear" and scale is not None:
            raise ValueError(f"scale={scale}: a {type(base).__name__} scales no similarities")
        self.base = base
        self.comparison: Comparison = base.comparison
        self.stride = base.stride
        self.padding = base.padding
        self.mean = base.mean
        bounds = cast("tuple[float, float]", tuple(alpha_bounds))
        objective = (losses, alpha, bounds, loss, border, reduction, masks)
        affinity = (scale, scale_read, normalize, exclude_self, keep_norm)
        checks = (hold_out, copies, stop, patience)
        self.tuning = Tuning(steps, lr, backtrack, projections, *objective, *affinity, keep, *checks)
        self.readapt = readapt
        if isinstance(base, LowLevel):
            self.features = base.features

    def begin(self, frame: Frame, masks: Masks) -> AdaptedState:
        """See `Segmenter.begin`. The next step writes the frame into the memory with the tuned keys."""
        return self._adapt(frame, AdaptedState(self.base.begin(frame, masks), []), masks, self.tuning)

    def step(self, frame: Frame, state: AdaptedState) -> tuple[Tensor, AdaptedState]:
        """See `Segmenter.step`. It has the cost of the base."""
        logits, base = self.base.step(frame, state.base)
        return logits, replace(state, base=base)

    def add(self, frame: Frame, masks: Masks, state: AdaptedState, known: Masks | None = None) -> AdaptedState:
        """See `Segmenter.add`. Given masks tune the keys again if `readapt` is set."""
        given = masks if known is None else known.append(masks)
        added = replace(state, base=self.base.add(frame, masks, state.base, known))
        if not state.adaptations:
            return self._adapt(frame, added, given, self.tuning)
        if not self.readapt:
            return added
        # Keys in the memory are final, so only the query projection is tuned.
        return self._adapt(frame, added, given, replace(self.tuning, projections="query"))

    def _adapt(self, frame: Frame, state: AdaptedState, masks: Masks, tuning: Tuning) -> AdaptedState:
        if self.training or not (tuning.steps or tuning.scale_read) or not masks.slot_mask.any():
            return state
        started = clock(frame.image.device)
        with torch.no_grad():
            inputs, base = self.base.compare(state.base)
            copies = [self._copy(frame, masks, i) for i in range(tuning.copies)]
            layers = self.base.key_layers()
            keys, adaptation = tune(inputs, layers, self.comparison, tuning, frame.index, started, copies)
            base = self.base.with_keys(base, keys)
        return AdaptedState(base, [*state.adaptations, adaptation])

    def _copy(self, frame: Frame, masks: Masks, seed: int) -> KeyInputs:
        """Compute the inputs of the key projections for an augmented copy of a frame."""
        return self.base.compare(self.base.begin(*augmented(frame, masks, seed)))[0]
