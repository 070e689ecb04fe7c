"""Exported graphs of XMem. The host program keeps the memories: the graphs count no usage and make no prototypes."""

from __future__ import annotations

from torch import Tensor

from voslab.core.export_graph import CELLS, MEMORY, ExportGraph
from voslab.methods.xmem.network import XMem
from voslab.methods.xmem.state import Query
from voslab.nn import matching_graphs as common
from voslab.nn.affinity import attend
from voslab.nn.anisotropic import expand_keys, expand_query
from voslab.nn.backbone import Pyramid
from voslab.nn.blocks import flatten_hw, unflatten_hw


def graphs(network: XMem) -> tuple[ExportGraph, ...]:
    """Return the graphs in the order in which they run. Those of a network without sensory memory do not mention it."""
    keys, values, hidden = network.key.out_channels, network.value_channels, network.sensory_channels
    features = common.pyramid_shapes(network.encoder.channels)
    query = {name: common.frame_shape(count) for name, count in (("key", keys), ("shrinkage", 1), ("selection", keys))}
    readout = {"readout": common.object_shape(values)}
    # ONNX names a value once, so an output cannot have the name of an input.
    sensory, refreshed, updated = (
        {name: common.object_shape(hidden)} if hidden else {} for name in ("sensory", "refreshed", "updated")
    )
    memory, new = (
        {**common.memory_shapes(keys, values, True, positions), "shrinkages": (1, 1, positions, 1)}
        for positions in (MEMORY, CELLS)
    )

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        (f4, f8, f16), key, shrinkage, selection = network.encode(image)
        return key, shrinkage, selection, f4, f8, f16

    def memorise(
        image: Tensor, masks: Tensor, key: Tensor, shrinkage: Tensor, f16: Tensor, *sensory: Tensor
    ) -> tuple[Tensor, ...]:
        before = sensory[0] if sensory else _without_channels(masks, f16)
        value, after = network.value(image, f16, common.all_slots(masks), before, deep=True)
        entry = flatten_hw(key).unsqueeze(1), value, flatten_hw(shrinkage).unsqueeze(1)
        return (*entry, after) if sensory else entry

    def read(key: Tensor, selection: Tensor, keys: Tensor, values: Tensor, shrinkages: Tensor) -> Tensor:
        queries = expand_query(flatten_hw(key), flatten_hw(selection))
        return unflatten_hw(attend(queries, expand_keys(keys, shrinkages), values, network.top_k), key)

    def decode(readout: Tensor, f4: Tensor, f8: Tensor, f16: Tensor, *sensory: Tensor) -> tuple[Tensor, ...]:
        before = sensory[0] if sensory else _without_channels(readout[:, :, 0], f16)
        # The decoder uses nothing of the frame but its features.
        log_odds, after = network.decode(Query(Pyramid(f4, f8, f16), f16, f16, f16), readout, before)
        probabilities = common.aggregated(log_odds)
        return (probabilities, after) if sensory and after is not None else (probabilities,)

    memorised = {name: {**query, **features}[name] for name in ("key", "shrinkage", "f16")}
    return (
        ExportGraph("encode", encode, common.IMAGE, query | features),
        ExportGraph("memorise", memorise, common.IMAGE | common.MASKS | memorised | sensory, new | refreshed),
        ExportGraph("read", read, {"key": query["key"], "selection": query["selection"]} | memory, readout),
        ExportGraph("decode", decode, readout | features | sensory, common.PROBABILITIES | updated),
    )


def _without_channels(objects: Tensor, f16: Tensor) -> Tensor:
    """Return an empty sensory memory B O 0 h w."""
    return f16[:, None, :0].expand(-1, objects.shape[1], -1, -1, -1)
