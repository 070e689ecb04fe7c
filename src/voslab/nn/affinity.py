"""Space-time attention: every position of a query frame reads every position of the memory (STM, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voslab.nn.export_compat import exporting, split_unless_exporting
from voslab.nn.precision import at_least_float32

CHUNK = 2**25
"""Maximum number of similarities in memory at a time (128 MiB). Query positions are read in chunks."""

GROUPS = (15, 12, 18, 10, 9, 20, 8, 6)
"""Positions per group in `largest`, the fastest first."""

Similarity = Literal["dot", "l2"]
"""`dot` is q·k/√C; `l2` is (2 q·k - |k|²)/√C, which orders memory positions by their distance (STCN, section 4)."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A Gaussian around the best query position of each memory position (KMN), which weights its similarities.

    Attributes:
        sigma: standard deviation in feature map positions.
        columns: width of the query's feature map.
    """

    sigma: float
    columns: int


def attend(
    query: Float[Tensor, "b q c"],
    keys: Float[Tensor, "b g m c"],
    values: Float[Tensor, "b o m v"],
    top_k: int | None = None,
    similarity: Similarity = "dot",
    kernel: Kernel | None = None,
    readable: Bool[Tensor, "b m"] | None = None,
) -> Float[Tensor, "b o q v"]:
    """Read a memory: softmax of the similarities over memory positions, then the weighted sum of the values.

    Similarities and their softmax are float32 also under autocast.

    Args:
        query: B Q C, shared by all objects.
        keys: B G M C; G = O, or 1 if objects share the keys.
        values: B O M V.
        top_k: number of positions with the largest similarities that are read; None: all.
        similarity: see `Similarity`.
        kernel: see `Kernel`; applied before the top-k selection.
        readable: B M, True at positions that may be read; None: all.

    Returns:
        readout B O Q V, in the dtype of the values.

    Example:
        >>> query, keys, values = torch.randn(1, 6, 8), torch.randn(1, 1, 12, 8), torch.randn(1, 2, 12, 4)
        >>> attend(query, keys, values, top_k=5, similarity="l2").shape
        torch.Size([1, 2, 6, 4])
    """
    with torch.autocast(query.device.type, enabled=False):
        scaled, keys = _scale_inputs(at_least_float32(query).unsqueeze(1), at_least_float32(keys), similarity)
        masked = None if readable is None else ~readable[:, None, None]
        transposed = keys.transpose(2, 3)
        chunks = split_unless_exporting(scaled, 2, lambda: query_chunk_size(keys))
        step = chunks[0].shape[2]
        best = None if kernel is None else _best_queries(chunks, transposed, step)
        parts = []
        for i, chunk in enumerate(chunks):
            scores = chunk @ transposed
            if masked is not None:
                scores = scores.masked_fill(masked, -torch.inf)
            if kernel is not None and best is not None:
                scores += _log_gaussian(best, i * step, chunk.shape[2], kernel)
            parts.append(_read(scores, values, top_k))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def _scale_inputs(query: Tensor, keys: Tensor, similarity: Similarity) -> tuple[Tensor, Tensor]:
    """Return queries and keys whose dot product is the similarity.

    For `l2`, keys get -|k|²/√C as an additional channel and queries a one, which is cheaper than a sum over all
    similarities.
    """
    scale = query.shape[-1] ** -0.5
    if similarity == "dot":
        return query * scale, keys
    length = keys.square().sum(-1, keepdim=True)
    return torch.cat([query * (2 * scale), torch.ones_like(query[..., :1])], -1), torch.cat([keys, -scale * length], -1)


def query_chunk_size(keys: Float[Tensor, "b g m c"]) -> int:
    """Compute how many query positions are compared with the keys at a time.

    Args:
        keys: B G M C.

    Returns:
        number of positions, at least 1.

    Example:
        >>> query_chunk_size(torch.zeros(1, 1, 2**15, 64))
        1024
    """
    return max(1, CHUNK // max(1, keys.shape[0] * keys.shape[1] * keys.shape[2]))


@torch.no_grad()
def _best_queries(chunks: tuple[Tensor, ...], transposed: Tensor, step: int) -> Tensor:
    """Return the query position with the largest similarity for each memory position, B G M."""
    best: Tensor | None = None
    index: Tensor | None = None
    for i, chunk in enumerate(chunks):
        chunk_best, chunk_index = (chunk @ transposed).max(2)
        chunk_index = chunk_index + i * step
        if best is None or index is None:
            best, index = chunk_best, chunk_index
        else:
            index = torch.where(chunk_best > best, chunk_index, index)
            best = torch.maximum(chunk_best, best)
    assert index is not None, "a query has at least one position"
    return index


def _log_gaussian(best: Tensor, start: int, count: int, kernel: Kernel) -> Tensor:
    """Return B G count M for best positions B G M and the query positions from `start`."""
    query = torch.arange(start, start + count, device=best.device).view(-1, 1)
    best = best.unsqueeze(2)
    rows = query // kernel.columns - best // kernel.columns
    # Not by remainders, which exporters reject when the grid's size is not known.
    columns = query - best - rows * kernel.columns
    return (rows.square() + columns.square()).float() / (-2 * kernel.sigma**2)


def _read(scores: Tensor, values: Tensor, top_k: int | None) -> Tensor:
    """Read values B O M V by similarities B G q M: B O q V."""
    if top_k is not None and exporting():
        count: int = torch.sym_min(top_k, scores.shape[-1])  # type: ignore[no-untyped-call]
        return _read_gathered(*scores.topk(count, -1), values)
    if top_k is None or top_k >= scores.shape[-1]:
        return scores.softmax(-1).to(values.dtype) @ values
    best, index = largest(scores, top_k)
    weights = best.softmax(-1).to(values.dtype)
    batch, objects = values.shape[:2]
    shape = (batch, objects, *weights.shape[2:])
    weights, index = weights.expand(shape), index.expand(shape)
    read = [
        torch.nn.functional.embedding_bag(index[b, o], values[b, o], mode="sum", per_sample_weights=weights[b, o])
        for b in range(batch)
        for o in range(objects)
    ]
    return torch.unflatten(torch.stack(read), 0, (batch, objects))


def largest(scores: Float[Tensor, "*n m"], count: int) -> tuple[Tensor, Tensor]:
    """Return the largest scores along the last axis, and their positions, as `Tensor.topk` does.

    On a CPU that takes half as long by maxima: the `count` largest are in the `count` groups with the largest maxima.

    Args:
        scores: … M.
        count: at most M.

    Returns:
        scores and positions, … count, the largest first.

    Example:
        >>> largest(torch.tensor([[1.0, 4.0, 2.0, 3.0]]), 2)
        (tensor([[4., 3.]]), tensor([[1, 3]]))
    """
    size = scores.shape[-1]
    groups = next((groups for groups in GROUPS if size % groups == 0 and size >= groups * count), None)
    if groups is None or scores.device.type != "cpu":
        best, index = scores.topk(count, -1)
        return best, index
    # A group takes every (size / groups)-th position, so that the maxima of neighbours are computed together.
    grouped = torch.unflatten(scores, -1, (groups, size // groups))
    chosen = grouped.amax(-2).topk(count, -1, sorted=False).indices
    candidates = grouped.gather(-1, chosen.unsqueeze(-2).expand(*chosen.shape[:-1], groups, count))
    best, index = candidates.flatten(-2).topk(count, -1)
    return best, index // count * (size // groups) + chosen.gather(-1, index % count)


def _read_gathered(best: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Read values by the top-k similarities and their positions, B G q k, with exportable operators.

    It gathers the values of all selected positions, which takes k times the memory of `_read`.
    """
    batch, objects, positions, channels = values.shape
    flat = values.reshape(-1, channels)
    first = torch.arange(batch * objects, device=values.device).view(batch, objects, 1, 1) * positions
    selected = torch.nn.functional.embedding(index + first, flat)
    return (best.softmax(-1).to(values.dtype).unsqueeze(3) @ selected).squeeze(3)
