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
Loss = Literal["linear", "cross_entropy"]

_CHOICES = {
    "projections": ("both", "query", "memory"),
    "losses": ("both", "object", "background"),
    "reduction": ("sum", "mean"),
    "masks": ("area", "binary"),
    "keep": ("last", "best"),
    "loss": ("linear", "cross_entropy"),
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
        alpha_bounds: smallest and largest weight of L_obj if it is chosen so. A loss that is almost zero before the
            first step would otherwise switch the other one off.
        loss: `linear` as in Eq. 3, or `cross_entropy` between mask and heat, which is smallest where both are equal.
        border: share b of the object; cells with a share between b and 1 - b are not part of the loss. 0.5: all cells
            are.
        reduction: reduction of the losses over positions. A `mean` needs a learning rate larger by their number.
        masks: masks on the grid of the features: `area` for the mean of each cell, `binary` to threshold it at 0.5.
        scale: factor of dot products and distances; None for 1/√C, as in the base. Eq. 1 has 1.
        scale_read: whether the memory is read with `scale` too. The tuned projections are scaled for that.
        normalize: whether all keys of the loss have the mean length of the first ones, so that longer keys cannot
            lower it. The memory is read with keys as they are.
        exclude_self: whether the affinity of each position to itself is 0.
        keep_norm: whether to rescale the projections after each step, so that the mean length of the keys is constant.
        keep: keys to use: the `last` ones, or the `best`, which have the smallest loss, or validation loss.
        hold_out: share of cells that are held out, in squares of 2x2 cells. They are neither queries nor memory of the
            loss. Their own heat over the other cells gives the validation loss.
        copies: number of augmented copies of the frame (flipped, rotated, scaled, brighter or darker) whose positions
            are queries of the loss too. The memory is that of the frame.
        stop: stop when the loss is at most this fraction of the first one; 0 for never.
        patience: stop after this number of steps without a smaller loss, or validation loss; None for never.

    Raises:
        ValueError: if a value is out of range.
    """

    steps: int = 50
    lr: float = 1.0
    backtrack: bool = True
    projections: Projections = "both"
    losses: Losses = "both"
    alpha: float | None = None
    alpha_bounds: tuple[float, float] = (0.1, 10.0)
    loss: Loss = "linear"
    border: float = 0.5
    reduction: Reduction = "sum"
    masks: Grid = "area"
    scale: float | None = None
    scale_read: bool = False
    normalize: bool = False
    exclude_self: bool = False
    keep_norm: bool = False
    keep: Keep = "last"
    hold_out: float = 0.0
    copies: int = 0
    stop: float = 0.0
    patience: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)}: choose from {', '.join(allowed)}")
        if self.steps < 0 or self.copies < 0 or not 0 <= self.stop < 1:
            given = f"steps={self.steps}, copies={self.copies}, stop={self.stop}"
            raise ValueError(f"{given}: must be at least 0, and stop below 1")
        low, high = self.alpha_bounds
        if not 0 < low <= high < math.inf:
            raise ValueError(
                f"alpha_bounds={tuple(self.alpha_bounds)}: must be two positive numbers, the smaller first"
            )
        if not 0 <= self.border <= 0.5 or not 0 <= self.hold_out < 1:
            raise ValueError(f"border={self.border}, hold_out={self.hold_out}: must be 0 to 0.5, and 0 to below 1")
        if self.scale_read and self.scale is None:
            raise ValueError("scale_read=true: needs a scale")
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
        validation: loss of the cells that are held out, B S+1; `loss` if none are.
        selected: step whose keys are used, B, int64.
        moved: change of the projections, relative to their length, B.
        seconds: total time, including the encoding of the frame.
    """

    frame: int
    loss: Tensor
    objects: Tensor
    backgrounds: Tensor
    alpha: Tensor
    norms: Tensor
    validation: Tensor
    selected: Tensor
    moved: Tensor
    seconds: float
