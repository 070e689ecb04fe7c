"""Exported graphs of GAM and GC, whose memory is one matrix per object, `context`."""

from __future__ import annotations

import torch
from torch import Tensor

from voslab.core.export_graph import OBJECTS, Axis, ExportGraph, Shape
from voslab.methods.gam.network import GAM, Encoded
from voslab.nn import matching_graphs as common
from voslab.nn.blocks import flatten_hw, unflatten_hw
from voslab.nn.global_memory import normalise_query


def graphs(network: GAM) -> tuple[ExportGraph, ...]:
    """Return the graphs in the order in which they run."""
    features = common.pyramid_shapes(network.encoder.channels)
    keys, values = network.project.key.out_channels, network.project.value.out_channels
    query = {"key": common.frame_shape(keys), "value": common.frame_shape(values), **features}
    readout = {"readout": common.object_shape(values)}
    context: Shape = (1, OBJECTS, keys, values)

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        pyramid, key, value = network.encode(image)
        return key, value, *pyramid

    def memorise(
        image: Tensor, masks: Tensor, key: Tensor, f16: Tensor, context: Tensor, rate: Tensor
    ) -> tuple[Tensor, ...]:
        key, value = network.encode_memory(image, f16, key, common.all_slots(masks))
        return (context + (key.transpose(2, 3) @ value - context) * rate.view(1, -1, 1, 1),)

    def read(key: Tensor, context: Tensor) -> Tensor:
        return unflatten_hw(normalise_query(flatten_hw(key), network.query_norm).unsqueeze(1) @ context, key)

    def embed(past: Tensor) -> Tensor:
        assert network.mem is not None
        return torch.unflatten(network.mem(past.flatten(0, 1)), 0, past.shape[:2])

    def decode(readout: Tensor, value: Tensor, f4: Tensor, f8: Tensor, embedded: Tensor | None = None) -> Tensor:
        encoded = Encoded(common.decoder_pyramid(f4, f8), value, value)
        return common.aggregated(network.decode(encoded, readout, embedded))

    written = {"key": query["key"], "f16": features["f16"], "context": context, "rate": (OBJECTS,)}
    decoded = readout | {name: query[name] for name in ("value", "f4", "f8")}
    parts = [
        ExportGraph("encode", encode, common.IMAGE, query),
        ExportGraph("memorise", memorise, {**common.IMAGE, **common.MASKS, **written}, {"updated": context}),
        ExportGraph("read", read, {"key": query["key"], "context": context}, readout),
    ]
    if network.mem is not None:
        past = (1, OBJECTS, network.mem.history, Axis("rows", 16), Axis("columns", 16))
        decoded["embedded"] = common.object_shape(network.mem.conv4.out_channels)
        parts.append(ExportGraph("embed", embed, {"past": past}, {"embedded": decoded["embedded"]}))
    return (*parts, ExportGraph("decode", decode, decoded, common.PROBABILITIES))
