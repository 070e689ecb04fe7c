"""Key projections with weights per clip, for methods that adapt keys to a video."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import Keys, Projection


def project(
    layer: nn.Conv2d, x: Float[Tensor, "n c h w"], projection: Projection | None = None
) -> Float[Tensor, "n k h w"]:
    """Project features to keys.

    Args:
        layer: convolution of the network; its stride, padding and dilation always apply.
        x: N C h w with N = B G, B-major.
        projection: weights per clip, used in place of the layer's; None: the layer's own.

    Returns:
        keys N Ck h w.

    Example:
        >>> layer = nn.Conv2d(8, 4, 3, padding=1)
        >>> x = torch.randn(2, 8, 5, 6)
        >>> torch.allclose(project(layer, x), project(layer, x, copy_keys([layer], 2).query), atol=1e-6)
        True
    """
    if projection is None:
        keys: Tensor = layer(x)
        return keys
    clips, dtype = len(projection.weight), layer.weight.dtype
    groups = len(x) // clips
    parts = [
        F.conv2d(part, weight.to(dtype), bias.to(dtype), layer.stride, layer.padding, layer.dilation)
        for part, weight, bias in zip(torch.split(x, [groups] * clips), projection.weight, projection.bias, strict=True)
    ]
    return parts[0] if clips == 1 else torch.cat(parts)


def query_proj(keys: Keys | None) -> Projection | None:
    """Return the query projection of a video; None if it has no keys of its own.

    Args:
        keys: projections of the video; None: the network's own apply.

    Returns:
        weights and biases per clip, or None.

    Example:
        >>> query_proj(None) is None
        True
    """
    return None if keys is None else keys.query


def memory_proj(keys: Keys | None) -> Projection | None:
    """Return the memory projection of a video; None if it has no keys of its own.

    Args:
        keys: projections of the video; None: the network's own apply.

    Returns:
        weights and biases per clip, or None.

    Example:
        >>> keys = copy_keys([nn.Conv2d(8, 4, 1)], clips=1)
        >>> memory_proj(keys) is query_proj(keys)
        True
    """
    return None if keys is None else keys.stored


def memory_key(
    layer: nn.Conv2d, x: Float[Tensor, "n c h w"], query: Float[Tensor, "n k h w"], keys: Keys | None
) -> Float[Tensor, "n k h w"]:
    """Compute the memory key of a frame, for networks with one projection for query and memory.

    Args:
        layer: the projection of the network.
        x: N C h w, features of the frame.
        query: N Ck h w, its query key, which is also the memory key unless the video has a memory projection.
        keys: projections of the video; None: the network's own.

    Returns:
        memory key N Ck h w.

    Example:
        >>> x, query = torch.randn(1, 8, 5, 6), torch.randn(1, 4, 5, 6)
        >>> memory_key(nn.Conv2d(8, 4, 1), x, query, None) is query
        True
    """
    if keys is None or keys.memory is None:
        return query
    return project(layer, x, keys.memory)


def copy_keys(layers: Sequence[nn.Conv2d], clips: int) -> Keys:
    """Copy the key projections of a network, once per clip.

    Args:
        layers: the projections of query and memory, or one for both.
        clips: B.

    Returns:
        keys without gradient.

    Example:
        >>> copy_keys([nn.Conv2d(8, 4, 3)], clips=2).query.weight.shape
        torch.Size([2, 4, 8, 3, 3])
    """
    copies = [_copy(layer, clips) for layer in layers]
    return Keys(copies[0], copies[1] if len(copies) == 2 else None)


def _copy(layer: nn.Conv2d, clips: int) -> Projection:
    weight = layer.weight.detach()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
    return Projection(weight.expand(clips, *weight.shape).clone(), bias.expand(clips, -1).clone())
