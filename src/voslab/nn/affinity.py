"""Space-time attention: every position of a frame looks at every position of the memory (STM, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from voslab.nn.export_compat import exporting, in_parts

CHUNK = 2**25
"""Most similarities that exist at a time: 128 MiB. A frame's positions are read in as many parts as that takes."""

Similarity = Literal["dot", "l2"]
"""k·q, or (2 k·q - |k|²) which orders memory positions by their distance (STCN, section 4); both over √C."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A Gaussian around the query position that suits a memory position best (KMN): it is not read far from there.

    Attributes:
        sigma: in cells.
        columns: of the query's grid.
    """

    sigma: float
    columns: int


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    top_k: int | None = None,
    similarity: Similarity = "dot",
    kernel: Kernel | None = None,
    used: Tensor | None = None,
) -> Tensor:
    """Read a memory: softmax over its positions of their similarity, then the weighted sum of its values.

    Similarities and their softmax are float32 also under autocast: half precision has no digits left for them.

    Args:
        query: B Q C, one for all objects.
        keys: B G M C, G = O, or 1 where objects share them.
        values: B O M V.
        top_k: only so many positions with the largest similarities take part (all where there are fewer).
        similarity: see `Similarity`.
        kernel: see `Kernel`; weights the exponentials before the largest are chosen.
        used: B M, bool: other positions are not read; None: all are.

    Returns:
        B O Q V, of the values' type.
    """
    with torch.autocast(query.device.type, enabled=False):
        scaled, keys = _comparable(query.float().unsqueeze(1), keys.float(), similarity)
        unused = None if used is None else ~used[:, None, None]
        transposed = keys.transpose(2, 3)
        chunks = in_parts(scaled, 2, lambda: positions_at_once(keys))
        step = chunks[0].shape[2]
        peaks = None if kernel is None else _peaks(chunks, transposed, step)
        parts = []
        for i, chunk in enumerate(chunks):
            scores = chunk @ transposed
            if unused is not None:
                scores = scores.masked_fill(unused, -torch.inf)
            if kernel is not None and peaks is not None:
                scores += _log_gaussian(peaks, i * step, chunk.shape[2], kernel)
            parts.append(_read(scores, values, top_k))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _comparable(query: Tensor, keys: Tensor, similarity: Similarity) -> tuple[Tensor, Tensor]:
    """Queries and keys whose dot product is the similarity.

    Keys get their -|k|²/√C as one more channel, queries a one: that is cheaper than to add it to all similarities.
    """
    scale = query.shape[-1] ** -0.5
    if similarity == "dot":
        return query * scale, keys
    length = keys.square().sum(-1, keepdim=True)
    return torch.cat([query * (2 * scale), torch.ones_like(query[..., :1])], -1), torch.cat([keys, -scale * length], -1)


def positions_at_once(keys: Tensor) -> int:
    """How many positions of a frame may be compared with keys B G M C at a time, at least 1."""
    return max(1, CHUNK // max(1, keys.shape[0] * keys.shape[1] * keys.shape[2]))


@torch.no_grad()
def _peaks(chunks: tuple[Tensor, ...], transposed: Tensor, step: int) -> Tensor:
    """The query position that suits each memory position best, B G M."""
    best: Tensor | None = None
    where: Tensor | None = None
    for i, chunk in enumerate(chunks):
        top, at = (chunk @ transposed).max(2)
        at = at + i * step
        if best is None or where is None:
            best, where = top, at
        else:
            where = torch.where(top > best, at, where)
            best = torch.maximum(top, best)
    assert where is not None, "a query has at least one position"
    return where


def _log_gaussian(peaks: Tensor, start: int, count: int, kernel: Kernel) -> Tensor:
    """Peaks B G M, for query positions `start`… -> B G count M."""
    query = torch.arange(start, start + count, device=peaks.device).view(-1, 1)
    peaks = peaks.unsqueeze(2)
    flatten_hw = query // kernel.columns - peaks // kernel.columns
    # Not by remainders, which exporters refuse where the grid's size is not known.
    columns = query - peaks - flatten_hw * kernel.columns
    return (flatten_hw.square() + columns.square()).float() / (-2 * kernel.sigma**2)


def _read(scores: Tensor, values: Tensor, top_k: int | None) -> Tensor:
    """Similarities B G q M, values B O M V -> B O q V."""
    if top_k is not None and exporting():
        count: int = torch.sym_min(top_k, scores.shape[-1])  # type: ignore[no-untyped-call]
        return _gathered(*scores.topk(count, -1), values)
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
    return torch.unflatten(torch.stack(read), 0, (batch, objects))


def _gathered(best: Tensor, where: Tensor, values: Tensor) -> Tensor:
    """What `_read` does of the best similarities and their positions, B G q k, in terms that graphs have.

    It takes k times the memory: the values of all chosen positions, side by side.
    """
    batch, objects, positions, channels = values.shape
    flat = values.reshape(-1, channels)
    first = torch.arange(batch * objects, device=values.device).view(batch, objects, 1, 1) * positions
    chosen = torch.nn.functional.embedding(where + first, flat)
    return (best.softmax(-1).to(values.dtype).unsqueeze(3) @ chosen).squeeze(3)
