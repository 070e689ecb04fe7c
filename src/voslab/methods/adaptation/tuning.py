"""How keys are tuned, and what is kept of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from voslab.core import State, state_dataclass

Projections = Literal["both", "query", "memory"]
Losses = Literal["both", "object", "background"]
Reduction = Literal["sum", "mean"]
Grid = Literal["area", "binary"]
Keep = Literal["last", "best"]

_CHOICES = {
    "projections": ("both", "query", "memory"),
    "losses": ("both", "object", "background"),
    "reduction": ("sum", "mean"),
    "masks": ("area", "binary"),
    "keep": ("last", "best"),
}


@dataclass(frozen=True, slots=True)
class Tuning:
    """The choices of an adaptation; the defaults are the paper's but for `backtrack`.

    Attributes:
        steps: gradient steps; 0 changes nothing.
        lr: of plain gradient descent.
        backtrack: a step that makes the loss larger is taken back, and the rate of that video quartered. The paper has
            nothing of the kind, and its rate is right for one scale of keys alone.
        projections: which are tuned. Where a network has one for both, `query` and `memory` part from each other.
        losses: which of Eq. 3 are minimised.
        alpha: weight of L_obj; None: that which lets both losses begin equal, object by object.
        reduction: of the losses over positions. A `mean` needs a rate that is larger by their number.
        masks: on the grid of the features: shares of each cell's `area`, or `binary` from a half on.
        scale: of dot products and distances, in place of the base's own 1/√C; 1 is Eq. 1 to the letter.
        exclude_self: no position looks at itself.
        keep_norm: after each step both projections are scaled back, so that keys stay as long as they were.
        keep: the `last` keys, or the `best`: those of the smallest loss.
        stop: as soon as the loss is no more than this share of the first one; 0: never.
        patience: stop after this number of steps without a smaller loss; None: never.

    Raises:
        ValueError: naming what is out of range.
    """

    steps: int = 50
    lr: float = 1.0
    backtrack: bool = True
    projections: Projections = "both"
    losses: Losses = "both"
    alpha: float | None = None
    reduction: Reduction = "sum"
    masks: Grid = "area"
    scale: float | None = None
    exclude_self: bool = False
    keep_norm: bool = False
    keep: Keep = "last"
    stop: float = 0.0
    patience: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)}: choose from {', '.join(allowed)}")
        if self.steps < 0 or not 0 <= self.stop < 1:
            raise ValueError(f"steps={self.steps}, stop={self.stop}: must be at least 0, and stop below 1")
        numbers = {name: getattr(self, name) for name in ("lr", "alpha", "scale", "patience")}
        if any(value is not None and not 0 < value < math.inf for value in numbers.values()):
            given = ", ".join(f"{name}={value}" for name, value in numbers.items())
            raise ValueError(f"{given}: must be positive where they are given")


@state_dataclass
class Adaptation(State):
    """What an adaptation did, point by point: S steps have S + 1 of them, the last one is where it stopped.

    Attributes:
        frame: index of the frame whose masks were used.
        loss: what was minimised, Σ over objects of α L_obj + L_bg: B S+1.
        objects: L_obj of Eq. 3, B S+1 O.
        backgrounds: L_bg, B S+1 O.
        alpha: B O.
        norms: mean length of the frame's query and memory keys, B S+1 2.
        kept: the point whose keys are used, B, int64.
        seconds: what all of it took, encoding the frame included.
    """

    frame: int
    loss: Tensor
    objects: Tensor
    backgrounds: Tensor
    alpha: Tensor
    norms: Tensor
    kept: Tensor
    seconds: float
