"""Where a frame looks when it looks for an object: the paper's Figure 3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from voslab.core import Frame, KeyMatching, Keys, Masks
from voslab.methods.adaptation.affinity import heat
from voslab.methods.adaptation.descent import on_grid
from voslab.nn.blocks import flatten_hw
from voslab.nn.key_projections import memory_proj, project, query_proj


@torch.no_grad()
def heat_maps(base: KeyMatching[Any], first: Frame, masks: Masks, frame: Frame, keys: Keys | None = None) -> Tensor:
    """h_i = Σ over the object's positions j in the first frame of A_ij (section 3.2), of any frame's positions i.

    All positions of the first frame take part, as in Eq. 1, whatever a base chooses to read.

    Args:
        base: in evaluation mode.
        first: with its masks, probs B O H W.
        masks: of `first`.
        frame: the one that looks; it may be `first`.
        keys: adapted ones; None: the base's own.

    Returns:
        B O h w, in [0, 1].

    Raises:
        ValueError: for a base whose affinity is no distribution.
    """
    if base.comparison is None:
        raise ValueError(f"this {type(base).__name__}'s affinity is no distribution")
    remembered, _ = base.compare(base.begin(first, masks))
    asking = remembered if frame is first else base.compare(base.begin(frame, masks))[0]
    layers = base.key_layers()
    batch, groups = remembered.memory.shape[:2]
    asked = project(layers[0], asking.query, query_proj(keys))
    stored = flatten_hw(project(layers[-1], remembered.memory.flatten(0, 1), memory_proj(keys)).float())
    size = (remembered.query.shape[-2], remembered.query.shape[-1])
    cells = on_grid(masks, size, "area")
    with torch.autocast(asked.device.type, enabled=False):
        found = heat(flatten_hw(asked.float()), stored.view(batch, groups, *stored.shape[1:]), cells, base.comparison)
    maps: Tensor = torch.unflatten(found, 2, size)
    return maps
