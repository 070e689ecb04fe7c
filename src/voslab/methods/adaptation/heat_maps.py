"""Computes heat maps of objects in any frame (the paper's Figure 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from voslab.core import Frame, KeyMatching, Keys, Masks
from voslab.methods.adaptation.affinity import heat, selection_of, shrinkage_of
from voslab.methods.adaptation.objective import on_grid
from voslab.nn.blocks import flatten_hw
from voslab.nn.key_projections import memory_proj, project, query_proj


@torch.no_grad()
def heat_maps(base: KeyMatching[Any], first: Frame, masks: Masks, frame: Frame, keys: Keys | None = None) -> Tensor:
    """Compute h_i = Σ_j A_ij over the object's positions j in the first frame (section 3.2).

    The affinity covers all positions of the first frame, as in Eq. 1, even if the base reads fewer.

    Args:
        base: segmenter in evaluation mode.
        first: first frame, image B 3 H W.
        masks: masks of the first frame, probs B O H W.
        frame: query frame; it may be `first`.
        keys: adapted keys; None for those of the base.

    Returns:
        B O h w, in [0, 1].

    Raises:
        ValueError: if the affinity of the base is no distribution over positions.
    """
    if base.comparison is None:
        raise ValueError(f"this {type(base).__name__}'s affinity is no distribution")
    first_inputs, _ = base.compare(base.begin(first, masks))
    inputs = first_inputs if frame is first else base.compare(base.begin(frame, masks))[0]
    layers = base.key_layers()
    batch, groups = first_inputs.memory.shape[:2]
    query = project(layers[0], inputs.query, query_proj(keys))
    memory = flatten_hw(project(layers[-1], first_inputs.memory.flatten(0, 1), memory_proj(keys)).float())
    size = (first_inputs.query.shape[-2], first_inputs.query.shape[-1])
    cells = on_grid(masks, size, "area")
    with torch.autocast(query.device.type, enabled=False):
        keys_of_first = memory.view(batch, groups, *memory.shape[1:])
        selection, shrinkage = selection_of(inputs), shrinkage_of(first_inputs)
        keys_of_query, comparison = flatten_hw(query.float()), base.comparison
        flat = heat(keys_of_query, keys_of_first, cells, comparison, selection=selection, shrinkage=shrinkage)
    maps: Tensor = torch.unflatten(flat, 2, size)
    return maps
