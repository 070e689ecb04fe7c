"""Exported graphs of SwiftNet. The host selects the positions that stay in the memory by the output of `compare`."""

from __future__ import annotations

from torch import Tensor

from voslab.core.export_graph import CELLS, MEMORY, OBJECTS, Axis, ExportGraph, Shape
from voslab.methods.swiftnet.network import Encoded, Query, SwiftNet
from voslab.nn import matching_graphs as common
from voslab.nn.affinity import attend
from voslab.nn.backbone import Pyramid
from voslab.nn.blocks import flatten_hw, unflatten_hw
from voslab.nn.pixel_memory import max_cosine


def graphs(network: SwiftNet) -> tuple[ExportGraph, ...]:
    """Return the graphs in the order in which they run."""
    keys, values = network.memory.key.out_channels, network.memory.value.out_channels
    memory, new = (common.memory_shapes(keys, values, False, positions) for positions in (MEMORY, CELLS))
    key, value = (common.frame_shape(layer.out_channels) for layer in (network.query.key, network.query.value))
    c1: Shape = (1, network.encoder.conv1.out_channels, Axis("rows", 8), Axis("columns", 8))
    features = {"c1": c1, **common.pyramid_shapes(network.encoder.channels)}
    readout = {"readout": common.object_shape(values)}

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        (c1, pyramid), key, value = network.encode(image)
        return key, value, c1, *pyramid

    def memorise(masks: Tensor, c1: Tensor, f4: Tensor, f8: Tensor, f16: Tensor) -> tuple[Tensor, ...]:
        return network.encode_memory(Encoded(c1, Pyramid(f4, f8, f16)), common.all_slots(masks))

    def compare(new: Tensor, keys: Tensor) -> Tensor:
        return max_cosine(new, keys)

    def read(key: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return unflatten_hw(attend(flatten_hw(key), keys, values), key)

    def decode(readout: Tensor, value: Tensor, f4: Tensor, f8: Tensor) -> Tensor:
        encoded = Encoded(f4, common.decoder_pyramid(f4, f8))
        return common.aggregated(network.decode(Query(encoded, value, value), readout))

    compared, similarity = {"new": new["keys"], "keys": memory["keys"]}, {"similarity": (1, OBJECTS, CELLS)}
    decoded = readout | {"value": value, "f4": features["f4"], "f8": features["f8"]}
    return (
        ExportGraph("encode", encode, common.IMAGE, {"key": key, "value": value, **features}),
        ExportGraph("memorise", memorise, {**common.MASKS, **features}, new),
        ExportGraph("compare", compare, compared, similarity),
        ExportGraph("read", read, {"key": key, **memory}, readout),
        ExportGraph("decode", decode, decoded, common.PROBABILITIES),
    )
