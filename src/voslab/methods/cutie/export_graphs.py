"""Exported graphs of Cutie, for objects that appear in one frame. The host program keeps the memories."""

from __future__ import annotations

from torch import Tensor

from voslab.core.export_graph import CELLS, MEMORY, OBJECTS, ExportGraph
from voslab.methods.cutie.network import Cutie
from voslab.methods.cutie.state import Query
from voslab.nn import matching_graphs as common
from voslab.nn.affinity import attend
from voslab.nn.aggregation import aggregate_product
from voslab.nn.anisotropic import expand_keys, expand_query
from voslab.nn.blocks import flatten_hw, unflatten_hw
from voslab.nn.decoders import upsample


def graphs(network: Cutie) -> tuple[ExportGraph, ...]:
    """Return the graphs in the order in which they run."""
    keys, values = network.key.out_channels, network.value_channels
    features = common.pyramid_shapes(network.encoder.channels)
    fine = {name: features[name] for name in ("f4", "f8")}
    named = (("key", keys), ("shrinkage", 1), ("selection", keys), ("pixel", values))
    query = {name: common.frame_shape(count) for name, count in named}
    summaries = (1, OBJECTS, len(network.transformer.query), values + 1)
    # ONNX names a value once, so an output cannot have the name of an input.
    sensory, refreshed, updated = (
        {name: common.object_shape(network.sensory_channels)} for name in ("sensory", "refreshed", "updated")
    )
    memory, new = (
        {**common.memory_shapes(keys, values, True, positions), "shrinkages": (1, 1, positions, 1)}
        for positions in (MEMORY, CELLS)
    )
    readout, transformed = ({name: common.object_shape(values)} for name in ("readout", "transformed"))

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        (f4, f8, _), key, shrinkage, selection, _, pixel = network.encode(image)
        return key, shrinkage, selection, pixel, f4, f8

    def memorise(
        image: Tensor, masks: Tensor, key: Tensor, shrinkage: Tensor, pixel: Tensor, sensory: Tensor
    ) -> tuple[Tensor, ...]:
        value, after, summary = network.value(image, pixel, common.all_slots(masks), sensory)
        return flatten_hw(key).unsqueeze(1), value, flatten_hw(shrinkage).unsqueeze(1), after, summary

    def read(key: Tensor, selection: Tensor, keys: Tensor, values: Tensor, shrinkages: Tensor) -> Tensor:
        queries = expand_query(flatten_hw(key), flatten_hw(selection))
        return unflatten_hw(attend(queries, expand_keys(keys, shrinkages), values, network.top_k), key)

    def transform(readout: Tensor, pixel: Tensor, masks: Tensor, sensory: Tensor, summaries: Tensor) -> Tensor:
        return network.transform_bucket(pixel, readout, sensory, common.all_slots(masks), summaries)[0]

    def decode(transformed: Tensor, f4: Tensor, f8: Tensor, sensory: Tensor) -> tuple[Tensor, Tensor]:
        # The decoder uses nothing of the frame but its features.
        frame = Query(common.decoder_pyramid(f4, f8), f8, f8, f8, f8, f8)
        log_odds, after = network.decode(frame, transformed, sensory)
        logits = aggregate_product(log_odds, common.all_slots(log_odds).slot_mask)
        return upsample(logits, 4).softmax(1), after

    written = {name: query[name] for name in ("key", "shrinkage", "pixel")}
    previous = common.MASKS | sensory | {"summaries": summaries}
    return (
        ExportGraph("encode", encode, common.IMAGE, query | fine),
        ExportGraph(
            "memorise",
            memorise,
            common.IMAGE | common.MASKS | written | sensory,
            new | refreshed | {"summary": summaries},
        ),
        ExportGraph("read", read, {"key": query["key"], "selection": query["selection"]} | memory, readout),
        ExportGraph("transform", transform, readout | {"pixel": query["pixel"]} | previous, transformed),
        ExportGraph("decode", decode, transformed | fine | sensory, common.PROBABILITIES | updated),
    )
