"""The loss of key adaptation (Eq. 3) as a function of the key projections.

Shapes: B clips, O objects, G memories (O, or 1 if objects share their keys), N positions, C channels. Every clip has
its own projections, so the gradient of the sum over clips equals the gradient of each clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import Keys, Masks
from voslab.core.segmenter import Comparison
from voslab.methods.adaptation.affinity import heat
from voslab.methods.adaptation.tuning import Grid, Tuning
from voslab.nn.blocks import flatten_hw
from voslab.nn.key_projections import project

MIN_LOSS = 1e-6
"""Losses per position below this value count as zero."""
SQUARE = 2
"""Side in cells of the squares that are held out."""


class Losses(NamedTuple):
    """Both losses of Eq. 3 without their weights.

    Attributes:
        objects: L_obj, B O.
        backgrounds: L_bg, B O.
    """

    objects: Tensor
    backgrounds: Tensor

    def weighted(self, alpha: Tensor, background: float) -> Tensor:
        """Compute Σ over objects of α L_obj + L_bg, B; `background` is the weight of L_bg."""
        total: Tensor = (alpha * self.objects + background * self.backgrounds).sum(1)
        return total


@dataclass(frozen=True, slots=True)
class View:
    """A frame as query.

    Attributes:
        query: B C h w, float32, inputs of the query projection.
        masks: B O N, on the grid of the features.
        selection: B N C, of an `anisotropic` comparison.
    """

    query: Tensor
    masks: Tensor
    selection: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Objective:
    """The constants of an adaptation.

    Attributes:
        views: the frame, and augmented copies of it.
        memory: B G C h w, float32, inputs of the memory projection.
        masks: B O N, on the grid of the features.
        slot_mask: B O, 1 for slots in use.
        layers: projections of the network, which define kernel size, stride and padding.
        comparison: how keys are compared.
        tuning: settings of the adaptation.
        cells: positions of the loss.
        held_out: positions of the validation loss.
        shrinkage: B G N 1, of an `anisotropic` comparison.
    """

    views: tuple[View, ...]
    memory: Tensor
    masks: Tensor
    slot_mask: Tensor
    layers: tuple[nn.Conv2d, ...]
    comparison: Comparison
    tuning: Tuning
    cells: Tensor
    held_out: Tensor
    shrinkage: Tensor | None = None

    def keys(self, keys: Keys) -> tuple[list[Tensor], Tensor]:
        """Compute the keys of all positions: query B N C of each view, memory B G N C."""
        queries = [flatten_hw(project(self.layers[0], view.query, keys.query)) for view in self.views]
        memory = flatten_hw(project(self.layers[-1], self.memory.flatten(0, 1), keys.stored))
        return queries, memory.view(*self.memory.shape[:2], *memory.shape[1:])

    def losses(self, queries: list[Tensor], memory: Tensor, lengths: Tensor) -> Losses:
        """Compute the losses, the mean over all views.

        Args:
            queries: B N C of each view.
            memory: B G N C.
            lengths: B 2, mean lengths of the first keys.
        """
        pairs = zip(queries, self.views, strict=True)
        parts = [self._losses(query, memory, view, self.cells, lengths) for query, view in pairs]
        objects, backgrounds = (torch.stack(part).mean(0) for part in zip(*parts, strict=True))
        return Losses(objects, backgrounds)

    @torch.no_grad()
    def validate(self, queries: list[Tensor], memory: Tensor, lengths: Tensor) -> Losses:
        """Compute the losses of the cells that are held out, as queries; see `losses`."""
        return self._losses(queries[0], memory, self.views[0], self.held_out, lengths)

    def _losses(self, query: Tensor, memory: Tensor, view: View, rows: Tensor, lengths: Tensor) -> Losses:
        tuning, columns = self.tuning, self.cells
        if tuning.normalize:
            query = F.normalize(query, dim=-1) * lengths[:, 0].view(-1, 1, 1)
            memory = F.normalize(memory, dim=-1) * lengths[:, 1].view(-1, 1, 1, 1)
        own = tuning.exclude_self and rows is columns and view.masks is self.masks
        query, memory, stored, m = (
            query[:, rows],
            memory[:, :, columns],
            self.masks[:, :, columns],
            view.masks[:, :, rows],
        )
        selection = None if view.selection is None else view.selection[:, rows]
        shrinkage = None if self.shrinkage is None else self.shrinkage[:, :, columns]
        heat_map = heat(query, memory, stored, self.comparison, tuning.scale, own, selection, shrinkage)
        # The rows of the affinity sum to 1, so 1 - heat is the share of the background.
        if tuning.loss == "linear":
            objects, backgrounds = (1 - m) * heat_map, m * (1 - heat_map)
        else:
            probs = heat_map.clamp(MIN_LOSS, 1 - MIN_LOSS)
            objects, backgrounds = -(1 - m) * (1 - probs).log(), -m * probs.log()
        clear = (m <= tuning.border) | (m >= 1 - tuning.border)
        sums = [(part * clear).sum(2) * self.slot_mask for part in (objects, backgrounds)]
        return Losses(*(part / len(rows) if tuning.reduction == "mean" else part for part in sums))

    def weights(self, first: Losses) -> tuple[Tensor, float]:
        """Return the weight α of L_obj, B O, and the weight of L_bg, given the losses before the first step."""
        alpha = torch.ones_like(first.objects)
        if self.tuning.alpha is not None:
            alpha = alpha * self.tuning.alpha
        elif self.tuning.losses == "both":
            least = MIN_LOSS * (1 if self.tuning.reduction == "mean" else len(self.cells))
            ratio = first.backgrounds / first.objects.clamp(min=least)
            nothing = (first.objects <= least) & (first.backgrounds <= least)
            alpha = torch.where(nothing, alpha, ratio.clamp(*self.tuning.alpha_bounds))
        return alpha * (self.tuning.losses != "background"), float(self.tuning.losses != "object")


def on_grid(masks: Masks, size: tuple[int, int], mode: Grid) -> Tensor:
    """Reduce masks to a grid of cells.

    Args:
        masks: probs B O H W.
        size: h, w of the grid.
        mode: `area` for the mean of each cell, `binary` to threshold it at 0.5.

    Returns:
        B O N; 0 for unused slots.
    """
    probs = masks.probs.float() * masks.slot_mask[:, :, None, None]
    cells = F.adaptive_avg_pool2d(probs, size).flatten(2)
    return cells if mode == "area" else (cells >= 0.5).float()


def split_cells(size: tuple[int, int], hold_out: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Split a grid into the cells of the loss and those that are held out, in squares that are spread evenly.

    Args:
        size: h, w of the grid.
        hold_out: share of cells to hold out.
        device: device of the result.

    Returns:
        positions of the loss, and positions that are held out.
    """
    rows, columns = (torch.arange(side, device=device) // SQUARE for side in size)
    # The additive recurrence R2, which spreads points evenly over the plane.
    order = (0.7548776662 * rows[:, None] + 0.5698402910 * columns) % 1
    held = (order < hold_out).flatten()
    return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)


def mean_norms(queries: list[Tensor], memory: Tensor) -> Tensor:
    """Compute the mean lengths B 2 of the query keys B N C of the frame and of memory keys B G N C."""
    return torch.stack([queries[0].detach().norm(dim=-1).mean(1), memory.detach().norm(dim=-1).mean((1, 2))], 1)
