"""How much of its affinity each position of a frame gives to an object: all that the adaptation loss looks at.

Shapes: B clips, O objects, G = O keys of a memory, or 1 where objects share them, Q positions of the query, M of the
memory, C channels. The affinity itself, Q x M, never exists as a whole: it is made in parts, and made again for the
gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from voslab.core.segmenter import Comparison

CHUNK = 2**22
"""Most affinities that exist at a time: 16 MiB, of which the gradient needs three."""


def heat(
    query: Tensor,
    keys: Tensor,
    masks: Tensor,
    comparison: Comparison,
    scale: float | None = None,
    exclude_self: bool = False,
) -> Tensor:
    """h_i = Σ_j m_j A_ij (section 3.2): the share of each query position's affinity that lies on the object.

    Args:
        query: B Q C.
        keys: B G M C.
        masks: B O M, in [0, 1].
        comparison: how A is made of them; its rows sum to 1.
        scale: in place of 1/√C; 1 is Eq. 1 to the letter. A `linear` comparison has none.
        exclude_self: query and memory are the same frame, and no position may look at itself.

    Returns:
        B O Q, float32 or as precise as the keys.
    """
    shared = keys.shape[1] == 1
    values = masks.transpose(1, 2).unsqueeze(1) if shared else masks.unsqueeze(3)
    exclude_self = exclude_self and keys.shape[2] > 1
    found: Tensor
    if comparison == "linear":
        found = _linear(query, keys, values, exclude_self)
    else:
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        offset = None
        if comparison == "l2":
            query, offset = 2 * query, -scale * keys.square().sum(-1)
        read = (scale * query, keys, offset, values, exclude_self)
        found = _Read.apply(*read)  # type: ignore[no-untyped-call]
    return found.squeeze(1).transpose(1, 2) if shared else found.squeeze(3)


def _linear(query: Tensor, keys: Tensor, values: Tensor, exclude_self: bool) -> Tensor:
    """A = softmax over channels of q · softmax over positions of k, read from the right: no Q x M is needed."""
    query, keys = query.softmax(-1).unsqueeze(1), keys.softmax(-2)
    found = query @ (keys.transpose(2, 3) @ values)
    if not exclude_self:
        return found
    own = (query * keys).sum(-1, keepdim=True)
    return (found - own * values) / (1 - own).clamp(min=1e-6)


class _Read(torch.autograd.Function):
    """softmax(q kᵀ + offset) · values: query B Q C, keys B G M C, offset B G M or None, values B G M K -> B G Q K.

    No gradient of the values.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, keys: Tensor, offset: Tensor | None, values: Tensor, exclude_self: bool
    ) -> Tensor:
        parts = [part @ values for _, part in _affinities(query, keys, offset, exclude_self)]
        found = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
        ctx.save_for_backward(query, keys, offset, values, found)
        ctx.exclude_self = exclude_self
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        """With g the gradient of the output, that of a score is A (g · values - g · output)."""
        [grad] = grads
        query, keys, offset, values, found = ctx.saved_tensors
        mean = (grad * found).sum(-1, keepdim=True)
        asked, of_keys = [], torch.zeros_like(keys)
        of_offset = None if offset is None else torch.zeros_like(offset)
        transposed = values.transpose(2, 3)
        for rows, part in _affinities(query, keys, offset, ctx.exclude_self):
            scores = part.mul_((grad[:, :, rows] @ transposed).sub_(mean[:, :, rows]))
            asked.append((scores @ keys).sum(1))
            of_keys += scores.transpose(2, 3) @ query[:, rows].unsqueeze(1)
            if of_offset is not None:
                of_offset += scores.sum(2)
        return torch.cat(asked, 1), of_keys, of_offset, None, None


def _affinities(
    query: Tensor, keys: Tensor, offset: Tensor | None, exclude_self: bool
) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the affinity, B G q M at a time."""
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
