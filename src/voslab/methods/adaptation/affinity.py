"""Computes heat maps: the share of each position's affinity that lies on an object, for the adaptation loss.

Shapes: B clips, O objects, G memories (O, or 1 if objects share their keys), Q positions of the query, M positions of
the memory, C channels. The affinity Q x M is computed in chunks, and recomputed for the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from voslab.core import KeyInputs
from voslab.core.segmenter import Comparison
from voslab.nn.anisotropic import expand_keys, expand_query
from voslab.nn.blocks import flatten_hw

CHUNK = 2**22
"""Maximum number of affinities in a chunk: 16 MiB, of which the gradient needs three."""


def heat(
    query: Tensor,
    keys: Tensor,
    masks: Tensor,
    comparison: Comparison,
    scale: float | None = None,
    exclude_self: bool = False,
    selection: Tensor | None = None,
    shrinkage: Tensor | None = None,
) -> Tensor:
    """Compute heat maps h_i = Σ_j m_j A_ij (section 3.2): the share of each position's affinity on the object.

    Args:
        query: B Q C.
        keys: B G M C.
        masks: B O M, in [0, 1].
        comparison: definition of the affinity A, whose rows sum to 1.
        scale: factor of the similarities; None for 1/√C. Eq. 1 has 1. Ignored by a `linear` comparison.
        exclude_self: whether the affinity of each position to itself is 0; query and memory are then the same frame.
        selection: B Q C, of an `anisotropic` comparison.
        shrinkage: B G M 1, of an `anisotropic` comparison.

    Returns:
        B O Q, in the precision of the keys.
    """
    shared = keys.shape[1] == 1
    values = masks.transpose(1, 2).unsqueeze(1) if shared else masks.unsqueeze(3)
    exclude_self = exclude_self and keys.shape[2] > 1
    heat_map: Tensor
    if comparison == "linear":
        heat_map = _linear(query, keys, values, exclude_self)
    else:
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        offset = None
        if comparison == "l2":
            query, offset = 2 * query, -scale * keys.square().sum(-1)
        if comparison == "anisotropic":
            assert selection is not None, "this comparison has a selection"
            assert shrinkage is not None, "this comparison has a shrinkage"
            scale *= (query.shape[-1] / (2 * query.shape[-1] + 1)) ** 0.5
            query, keys = expand_query(query, selection), expand_keys(keys, shrinkage)
        read = (scale * query, keys, offset, values, exclude_self)
        heat_map = _Read.apply(*read)  # type: ignore[no-untyped-call]
    return heat_map.squeeze(1).transpose(1, 2) if shared else heat_map.squeeze(3)


def selection_of(inputs: KeyInputs) -> Tensor | None:
    """Return the selection of a frame as query, B Q C in float32; None if its comparison has none."""
    return None if inputs.selection is None else flatten_hw(inputs.selection.float().clone())


def shrinkage_of(inputs: KeyInputs) -> Tensor | None:
    """Return the shrinkage of a frame as memory, B G M 1 in float32; None if its comparison has none."""
    return None if inputs.shrinkage is None else inputs.shrinkage.float().clone().flatten(3).transpose(2, 3)


def _linear(query: Tensor, keys: Tensor, values: Tensor, exclude_self: bool) -> Tensor:
    """Multiply A = softmax over channels of q · softmax over positions of k by the values, without computing A."""
    query, keys = query.softmax(-1).unsqueeze(1), keys.softmax(-2)
    output = query @ (keys.transpose(2, 3) @ values)
    if not exclude_self:
        return output
    own = (query * keys).sum(-1, keepdim=True)
    return (output - own * values) / (1 - own).clamp(min=1e-6)


class _Read(torch.autograd.Function):
    """Computes softmax(q kᵀ + offset) · values in chunks. The values get no gradient.

    Shapes: query B Q C, keys B G M C, offset B G M or None, values B G M K; output B G Q K.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, keys: Tensor, offset: Tensor | None, values: Tensor, exclude_self: bool
    ) -> Tensor:
        chunks = [affinity @ values for _, affinity in _affinities(query, keys, offset, exclude_self)]
        output = chunks[0] if len(chunks) == 1 else torch.cat(chunks, 2)
        ctx.save_for_backward(query, keys, offset, values, output)
        ctx.exclude_self = exclude_self
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        """The gradient of a score is A (g · values - g · output), where g is the gradient of the output."""
        [grad] = grads
        query, keys, offset, values, output = ctx.saved_tensors
        mean = (grad * output).sum(-1, keepdim=True)
        query_grads, key_grad = [], torch.zeros_like(keys)
        offset_grad = None if offset is None else torch.zeros_like(offset)
        transposed = values.transpose(2, 3)
        for rows, affinity in _affinities(query, keys, offset, ctx.exclude_self):
            score_grad = affinity.mul_((grad[:, :, rows] @ transposed).sub_(mean[:, :, rows]))
            query_grads.append((score_grad @ keys).sum(1))
            key_grad += score_grad.transpose(2, 3) @ query[:, rows].unsqueeze(1)
            if offset_grad is not None:
                offset_grad += score_grad.sum(2)
        return torch.cat(query_grads, 1), key_grad, offset_grad, None, None


def _affinities(
    query: Tensor, keys: Tensor, offset: Tensor | None, exclude_self: bool
) -> Iterator[tuple[slice, Tensor]]:
    """Yield chunks of rows of the affinity, B G q M."""
    transposed = keys.transpose(2, 3)
    step = max(1, CHUNK // max(1, keys.shape[0] * keys.shape[1] * keys.shape[2]))
    for start in range(0, query.shape[1], step):
        rows = slice(start, min(start + step, query.shape[1]))
        scores = query[:, rows].unsqueeze(1) @ transposed
        if offset is not None:
            scores += offset.unsqueeze(2)
        if exclude_self:
            scores.diagonal(start, 2, 3).fill_(-torch.inf)
        yield rows, scores.softmax(-1)
