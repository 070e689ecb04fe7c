"""Key adaptation (Dubuisson et al.): masks of the first frame tune the keys that the video is matched by.

Shapes: B clips, O objects, C channels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from voslab.core import Frame, KeyMatching, LowLevel, Masks, Segmenter, State, state_dataclass
from voslab.core.segmenter import Comparison
from voslab.methods.adaptation.descent import clock, tune
from voslab.methods.adaptation.tuning import Adaptation, Grid, Keep, Losses, Projections, Reduction, Tuning

_DEFAULTS = Tuning()


@state_dataclass
class AdaptedState(State):
    """The base's own state, which holds the video's keys, and how these came about.

    Attributes:
        base: of the base.
        adaptations: the first one, and one more for each frame that objects were added on where `readapt` is set.
    """

    base: State
    adaptations: list[Adaptation]


class Adapted(Segmenter[AdaptedState]):
    """The wrapper; a `Segmenter`. It has no weights of its own, and in training mode it is the base and nothing else.

    Args:
        base: a `KeyMatching` segmenter.
        steps, lr, backtrack, projections, losses, alpha, reduction, masks, scale, exclude_self, keep_norm, keep, stop,
            patience: see `Tuning`.
        readapt: objects that appear later tune the query's projection again; what is remembered keeps its keys. If
            False, only the first objects of a video tune anything.

    Raises:
        ValueError: for a base without keys to tune, or a number out of range.
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
        reduction: Reduction = _DEFAULTS.reduction,
        masks: Grid = _DEFAULTS.masks,
        scale: float | None = _DEFAULTS.scale,
        exclude_self: bool = _DEFAULTS.exclude_self,
        keep_norm: bool = _DEFAULTS.keep_norm,
        keep: Keep = _DEFAULTS.keep,
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
        chosen = (projections, losses, alpha, reduction, masks, scale, exclude_self, keep_norm, keep, stop, patience)
        self.tuning = Tuning(steps, lr, backtrack, *chosen)
        self.readapt = readapt
        if isinstance(base, LowLevel):
            self.features = base.features

    def begin(self, frame: Frame, masks: Masks) -> AdaptedState:
        """See `Segmenter.begin`. The frame is written into the memory by the next step, with the tuned keys."""
        return self._adapted(frame, AdaptedState(self.base.begin(frame, masks), []), masks, self.tuning)

    def step(self, frame: Frame, state: AdaptedState) -> tuple[Tensor, AdaptedState]:
        """See `Segmenter.step`. It costs what the base's costs."""
        logits, base = self.base.step(frame, state.base)
        return logits, replace(state, base=base)

    def add(self, frame: Frame, masks: Masks, state: AdaptedState) -> AdaptedState:
        """See `Segmenter.add`."""
        added = replace(state, base=self.base.add(frame, masks, state.base))
        if not state.adaptations:
            return self._adapted(frame, added, masks, self.tuning)
        if not self.readapt:
            return added
        # Keys in the memory cannot be written anew: what they are compared with can.
        return self._adapted(frame, added, masks, replace(self.tuning, projections="query"))

    def _adapted(self, frame: Frame, state: AdaptedState, masks: Masks, tuning: Tuning) -> AdaptedState:
        if self.training or tuning.steps == 0 or not masks.slot_mask.any():
            return state
        started = clock(frame.image.device)
        with torch.no_grad():
            compared, base = self.base.compare(state.base)
            keys, made = tune(compared, self.base.key_layers(), self.comparison, tuning, frame.index, started)
            base = self.base.with_keys(base, keys)
        return AdaptedState(base, [*state.adaptations, made])
