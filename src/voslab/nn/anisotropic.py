"""The anisotropic L2 similarity of XMem (section 3.3), as a dot product of longer vectors.

The similarity of memory position i and query position j is S_ij = -s_i Σ_c e_jc (k_ic - q_jc)² / √C, with shrinkage s
of the memory and selection e of the query. Written out, it is linear in s·[k, k², 1] and in [2 e q, -e, -Σ e q²].
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from voslab.nn.affinity import largest
from voslab.nn.precision import at_least_float32


def expand_query(query: Float[Tensor, "... q c"], selection: Float[Tensor, "... q c"]) -> Float[Tensor, "... q d"]:
    """Return queries whose `dot` similarity with keys of `expand_keys` is the anisotropic similarity.

    Args:
        query: … Q C.
        selection: … Q C, in (0, 1).

    Returns:
        … Q 2C+1, at least float32; see `voslab.nn.affinity.Similarity` for `dot`.

    Example:
        >>> query, selection, keys, shrinkage = torch.rand(6, 8), torch.rand(6, 8), torch.rand(5, 8), torch.rand(5, 1)
        >>> expanded = expand_query(query, selection), expand_keys(keys, shrinkage)
        >>> similarity = expanded[0] @ expanded[1].T * expanded[0].shape[1] ** -0.5
        >>> distance = (selection[:, None] * (keys - query[:, None]).square()).sum(2)
        >>> torch.allclose(similarity, -distance * shrinkage.T * 8**-0.5, atol=1e-5)
        True
    """
    query, selection = at_least_float32(query), at_least_float32(selection)
    weighted = selection * query
    parts = [2 * weighted, -selection, -(weighted * query).sum(-1, keepdim=True)]
    channels = query.shape[-1]
    return torch.cat(parts, -1) * math.sqrt((2 * channels + 1) / channels)


def expand_keys(keys: Float[Tensor, "... m c"], shrinkage: Float[Tensor, "... m 1"]) -> Float[Tensor, "... m d"]:
    """Return memory keys for `expand_query`.

    Args:
        keys: … M C.
        shrinkage: … M 1, positive.

    Returns:
        … M 2C+1, at least float32.

    Example:
        >>> expand_keys(torch.tensor([[2.0]]), torch.tensor([[3.0]]))
        tensor([[ 6., 12.,  3.]])
    """
    keys, shrinkage = at_least_float32(keys), at_least_float32(shrinkage)
    return torch.cat([keys, keys.square(), torch.ones_like(keys[..., :1])], -1) * shrinkage


def affinities(
    queries: Tensor, keys: Tensor, masks: list[Tensor | None], top_k: int | None, chunk: int
) -> tuple[list[tuple[Tensor, Tensor | None]], Tensor]:
    """Compute the affinities of queries with the keys of a memory, once for several groups of objects.

    Args:
        queries: Q D; their dot product with keys is the similarity.
        keys: M D.
        masks: positions that may be read, M, one mask per group; None: all.
        top_k: number of positions with the largest similarities that are read; None: all.
        chunk: number of queries that are compared at a time.

    Returns:
        for each group the affinities Q K and the positions that they are of, None for all; and the sum of the first
        group's affinities over queries, M.

    Example:
        >>> parts, usage = affinities(torch.zeros(3, 2), torch.zeros(4, 2), [None], None, 2)
        >>> parts[0][0].shape, usage
        (torch.Size([3, 4]), tensor([0.7500, 0.7500, 0.7500, 0.7500]))
    """
    usage = queries.new_zeros(len(keys))
    chunks: list[list[tuple[Tensor, Tensor | None]]] = [[] for _ in masks]
    for part in torch.split(queries, chunk):
        scores = part @ keys.T
        for number, mask in enumerate(masks):
            masked = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
            if top_k is None or top_k >= len(keys):
                weights, index = masked.softmax(-1), None
            else:
                best, index = largest(masked, top_k)
                weights = best.softmax(-1)
            chunks[number].append((weights, index))
            if number == 0 and index is None:
                usage += weights.detach().sum(0)
            elif number == 0 and index is not None:
                usage.index_add_(0, index.flatten(), weights.detach().flatten())
    joined: list[tuple[Tensor, Tensor | None]] = []
    for parts in chunks:
        indices = [index for _, index in parts if index is not None]
        joined.append((torch.cat([weights for weights, _ in parts]), torch.cat(indices) if indices else None))
    return joined, usage


def read_values(weights: Tensor, index: Tensor | None, *values: Tensor) -> Tensor:
    """Read values with affinities.

    Args:
        weights: Q K, affinities.
        index: Q K, positions that they are of; None: all.
        values: parts 1 O M V of the values, in the order of the positions.

    Returns:
        readout O Q V.

    Example:
        >>> read_values(torch.ones(1, 2), torch.tensor([[0, 2]]), torch.arange(3.0).view(1, 1, 3, 1)).flatten()
        tensor([2.])
    """
    readouts = []
    # One object at a time, so that the parts are joined for one object only.
    for parts in zip(*(part[0] for part in values), strict=True):
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        own = weights.to(joined.dtype)
        if index is None:
            readouts.append(own @ joined)
        else:
            readouts.append(F.embedding_bag(index, joined, mode="sum", per_sample_weights=own))
    return torch.stack(readouts)
