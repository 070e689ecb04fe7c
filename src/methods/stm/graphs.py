"""STM outside of Python."""

from __future__ import annotations

from torch import Tensor

from src.core.graphs import CELLS, MEMORY, Graph, Graphs
from src.methods.stm.network import STM, Query
from src.nn import graphs as common
from src.nn.affinity import attend
from src.nn.blocks import grid, rows


def graphs(network: STM) -> Graphs:
    """See `Graphs`."""
    features = common.pyramid(network.encoder.channels)
    fine = {name: features[name] for name in ("f4", "f8")}
    asked, seen = (common.plane(layer.out_channels) for layer in (network.query.key, network.query.value))
    keys, values = network.memory.key.out_channels, network.memory.value.out_channels
    memory, new = (common.remembered(keys, values, False, positions) for positions in (MEMORY, CELLS))

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        (f4, f8, _), key, value = network.encode(image)
        return key, value, f4, f8

    def memorise(image: Tensor, masks: Tensor) -> tuple[Tensor, ...]:
        return network.remember(image, common.used(masks))

    def read(key: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return grid(attend(rows(key), keys, values, network.top_k), key)

    def decode(readout: Tensor, value: Tensor, f4: Tensor, f8: Tensor) -> Tensor:
        return common.probabilities(network.decode(Query(common.fine(f4, f8), value, value), readout))

    masked = {"image": common.picture(), "masks": common.planes()}
    found = {"readout": common.own(values), "value": seen, **fine}
    parts = (
        Graph("encode", encode, {"image": common.picture()}, {"key": asked, "value": seen, **fine}, common.ENCODE),
        Graph("memorise", memorise, masked, new, common.MEMORISE),
        Graph("read", read, {"key": asked, **memory}, {"readout": common.own(values)}, common.READ),
        Graph("decode", decode, found, common.distribution(), common.DECODE),
    )
    chain = common.growing(network.memory_every, network.memory_previous, network.memory_bound)
    return Graphs(parts, chain, common.PRODUCT)
