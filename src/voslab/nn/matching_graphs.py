"""Shapes and functions that the exported graphs of several methods share. See `voslab.core.export_graph`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from voslab.core import Masks
from voslab.core.export_graph import CELLS, COLUMNS, MEMORY, OBJECTS, ROWS, Axis, ExportGraph, Shape
from voslab.nn.affinity import Kernel, attend
from voslab.nn.aggregation import aggregate_product
from voslab.nn.backbone import Pyramid
from voslab.nn.blocks import flatten_hw, unflatten_hw

IMAGE: dict[str, Shape] = {"image": (1, 3, Axis("rows", 16), Axis("columns", 16))}
MASKS: dict[str, Shape] = {"masks": (1, OBJECTS, Axis("rows", 16), Axis("columns", 16))}
PROBABILITIES: dict[str, Shape] = {"probabilities": (1, Axis("objects", 1, 1), Axis("rows", 16), Axis("columns", 16))}
"""Aggregated probabilities, background first."""


def pyramid_shapes(channels: Sequence[int]) -> dict[str, Shape]:
    """Return the shapes of features at strides 4, 8 and 16."""
    levels = zip(("f4", "f8", "f16"), channels, (4, 2, 1), strict=True)
    return {name: (1, count, Axis("rows", scale), Axis("columns", scale)) for name, count, scale in levels}


def frame_shape(channels: int) -> Shape:
    """Return the shape of a frame's features on the grid."""
    return (1, channels, ROWS, COLUMNS)


def object_shape(channels: int) -> Shape:
    """Return the shape of features on the grid, one map per object."""
    return (1, OBJECTS, channels, ROWS, COLUMNS)


def memory_shapes(keys: int, values: int, shared_keys: bool, positions: Axis = MEMORY) -> dict[str, Shape]:
    """Return the shapes of memory keys and values.

    Args:
        keys: channels of a key.
        values: channels of a value.
        shared_keys: whether all objects share one key per position.
        positions: `MEMORY` for a whole memory, `CELLS` for one frame.
    """
    return {"keys": (1, 1 if shared_keys else OBJECTS, positions, keys), "values": (1, OBJECTS, positions, values)}


def all_slots(masks: Tensor) -> Masks:
    """Return masks 1 O H W whose slots are all in use."""
    return Masks(masks, torch.ones_like(masks[:, :, 0, 0], dtype=torch.bool))


def aggregated(logits: Tensor) -> Tensor:
    """Return the aggregated probabilities 1 (O+1) H W, background first, for log-odds 1 O H W."""
    return aggregate_product(logits, torch.ones_like(logits[:, :, 0, 0], dtype=torch.bool)).softmax(1)


def decoder_pyramid(f4: Tensor, f8: Tensor) -> Pyramid:
    """Return a pyramid for a decoder that does not use the deepest level, which any tensor can stand for."""
    return Pyramid(f4, f8, f8)


def query_and_memory(network: Any, query: Callable[..., Any], sigma: float | None = None) -> tuple[ExportGraph, ...]:
    """Return the graphs of a network with separate query and memory encoders (STM, MiVOS).

    Args:
        network: the method's network.
        query: the method's `Query` type.
        sigma: standard deviation, in cells, of the kernel of a memory read; None for a read without a kernel.
    """
    features = pyramid_shapes(network.encoder.channels)
    fine = {name: features[name] for name in ("f4", "f8")}
    key_shape, value_shape = (frame_shape(layer.out_channels) for layer in (network.query.key, network.query.value))
    keys, values = network.memory.key.out_channels, network.memory.value.out_channels
    memory, new = (memory_shapes(keys, values, False, positions) for positions in (MEMORY, CELLS))
    readout = {"readout": object_shape(values)}

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        (f4, f8, _), key, value = network.encode(image)
        return key, value, f4, f8

    def memorise(image: Tensor, masks: Tensor) -> tuple[Tensor, ...]:
        entry: tuple[Tensor, ...] = network.encode_memory(image, all_slots(masks))
        return entry

    def read(key: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        kernel = None if sigma is None else Kernel(sigma, key.shape[-1])
        return unflatten_hw(attend(flatten_hw(key), keys, values, network.top_k, "dot", kernel), key)

    def decode(readout: Tensor, value: Tensor, f4: Tensor, f8: Tensor) -> Tensor:
        return aggregated(network.decode(query(decoder_pyramid(f4, f8), value, value), readout))

    return (
        ExportGraph("encode", encode, IMAGE, {"key": key_shape, "value": value_shape, **fine}),
        ExportGraph("memorise", memorise, IMAGE | MASKS, new),
        ExportGraph("read", read, {"key": key_shape, **memory}, readout),
        ExportGraph("decode", decode, {**readout, "value": value_shape, **fine}, PROBABILITIES),
    )
