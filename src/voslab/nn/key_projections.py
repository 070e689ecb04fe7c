"""Key projections that belong to a video: convolutions whose weights are its own, clip by clip."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core import Keys, Projection


def project(layer: nn.Conv2d, x: Tensor, own: Projection | None = None) -> Tensor:
    """A projection of x N C h w, N = B G, to N Ck h w: by the layer's weights, or by each clip's own."""
    if own is None:
        keys: Tensor = layer(x)
        return keys
    clips, dtype = len(own.weight), layer.weight.dtype
    each = len(x) // clips
    parts = [
        F.conv2d(part, weight.to(dtype), bias.to(dtype), layer.stride, layer.padding, layer.dilation)
        for part, weight, bias in zip(torch.split(x, [each] * clips), own.weight, own.bias, strict=True)
    ]
    return parts[0] if clips == 1 else torch.cat(parts)


def query_proj(keys: Keys | None) -> Projection | None:
    """A video's own projection of queries, if it has one."""
    return None if keys is None else keys.query


def memory_proj(keys: Keys | None) -> Projection | None:
    """A video's own projection of what it remembers, if it has one."""
    return None if keys is None else keys.stored


def memory_key(layer: nn.Conv2d, x: Tensor, query: Tensor, keys: Keys | None) -> Tensor:
    """The key that a frame x N C h w is remembered by, where a network has one for both: its `query`, as a rule."""
    if keys is None or keys.memory is None:
        return query
    return project(layer, x, keys.memory)


def own_keys(layers: Sequence[nn.Conv2d], clips: int) -> Keys:
    """Copies of a network's key projections (of query and memory, or one for both), for each clip."""
    copies = [_copy(layer, clips) for layer in layers]
    return Keys(copies[0], copies[1] if len(copies) == 2 else None)


def _copy(layer: nn.Conv2d, clips: int) -> Projection:
    weight = layer.weight.detach()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
    return Projection(weight.expand(clips, *weight.shape).clone(), bias.expand(clips, -1).clone())
