"""Space-time attention: every position of a frame looks at every position of the memory (STM, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 2**25
"""Most similarities that exist at a time: 128 MiB. A frame's positions are read in as many parts as that takes."""


def attend(query: Tensor, keys: Tensor, values: Tensor, top_k: int | None = None) -> Tensor:
    """Read a memory: softmax over its positions of k·q / √C, then the weighted sum of its values.

    Similarities and their softmax are float32 also under autocast: half precision has no digits left for them.

    Args:
        query: B Q C, one for all objects.
        keys: B G M C, G = O, or 1 where objects share them.
        values: B O M V.
        top_k: only so many positions with the largest similarities take part (all where there are fewer).

    Returns:
        B O Q V, of the values' type.
    """
    with torch.autocast(query.device.type, enabled=False):
        scaled = query.float().unsqueeze(1) * query.shape[-1] ** -0.5
        transposed = keys.float().transpose(2, 3)
        step = max(1, CHUNK // max(1, keys.shape[0] * keys.shape[1] * keys.shape[2]))
        parts = [_read(part @ transposed, values, top_k) for part in scaled.split(step, 2)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _read(scores: Tensor, values: Tensor, top_k: int | None) -> Tensor:
    """Similarities B G q M, values B O M V -> B O q V."""
    if top_k is None or top_k >= scores.shape[-1]:
        return scores.softmax(-1).to(values.dtype) @ values
    best, where = scores.topk(top_k, -1)
    weights = best.softmax(-1).to(values.dtype)
    batch, objects = values.shape[:2]
    shape = (batch, objects, *weights.shape[2:])
    weights, where = weights.expand(shape), where.expand(shape)
    read = [
        torch.nn.functional.embedding_bag(where[b, o], values[b, o], mode="sum", per_sample_weights=weights[b, o])
        for b in range(batch)
        for o in range(objects)
    ]
    return torch.stack(read).unflatten(0, (batch, objects))
