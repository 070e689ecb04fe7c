"""Settings and records of key adaptation."""

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
    """Settings of an adaptation. The defaults are those of the paper, except for `backtrack`.

    Attributes:
        steps: gradient steps; 0 turns the adaptation off.
        lr: learning rate of plain gradient descent.
        backtrack: whether to revert a step that increases the loss and quarter the learning rate of that video. The
            paper does not, but its learning rate suits only one scale of keys.
        projections: projections to tune. With `query` or `memory`, a shared projection of the network becomes two.
        losses: losses of Eq. 3 to minimise.
        alpha: weight of L_obj; None: both losses of each object are equal before the first step.
        reduction: reduction of the losses over positions. A `mean` needs a learning rate larger by their number.
        masks: masks on the grid of the features: `area` for the mean of each cell, `binary` to threshold it at 0.5.
        scale: factor of dot products and distances; None for 1/√C, as in the base. Eq. 1 has 1.
        exclude_self: whether the affinity of each position to itself is 0.
        keep_norm: whether to rescale the projections after each step, so that the mean length of the keys is constant.
        keep: keys to use: the `last` ones, or the `best`, which have the smallest loss.
        stop: stop when the loss is at most this fraction of the first one; 0 for never.
        patience: stop after this number of steps without a smaller loss; None for never.

    Raises:
        ValueError: if a value is out of range.
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
            values = ", ".join(f"{name}={value}" for name, value in numbers.items())
            raise ValueError(f"{values}: must be positive where they are given")


@state_dataclass
class Adaptation(State):
    """Record of an adaptation of S steps, with the values before the first and after each step.

    Attributes:
        frame: index of the frame whose masks were used.
        loss: Σ over objects of α L_obj + L_bg, B S+1.
        objects: L_obj of Eq. 3, B S+1 O.
        backgrounds: L_bg of Eq. 3, B S+1 O.
        alpha: weight of L_obj, B O.
        norms: mean lengths of the query and memory keys of the frame, B S+1 2.
        selected: step whose keys are used, B, int64.
        seconds: total time, including the encoding of the frame.
    """

    frame: int
    loss: Tensor
    objects: Tensor
    backgrounds: Tensor
    alpha: Tensor
    norms: Tensor
    selected: Tensor
    seconds: float
