"""STCN outside of Python: keys of frames alone, so that a frame is remembered by the key that it asked with."""

from __future__ import annotations

from torch import Tensor

from voslab.core.export_graph import CELLS, MEMORY, Graph, Graphs
from voslab.methods.stcn.network import STCN, Query
from voslab.nn import matching_graphs as common
from voslab.nn.affinity import attend
from voslab.nn.blocks import flatten_hw, unflatten_hw


def graphs(network: STCN) -> Graphs:
    """See `Graphs`."""
    top_k = network.top_k
    keys, values = network.key.out_channels, network.thin.out_channels
    features = common.pyramid(network.encoder.channels)
    memory, new = (common.remembered(keys, values, True, positions) for positions in (MEMORY, CELLS))

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        (f4, f8, f16), key, thin = network.encode(image)
        return key, thin, f4, f8, f16

    def memorise(image: Tensor, masks: Tensor, key: Tensor, f16: Tensor) -> tuple[Tensor, ...]:
        return flatten_hw(key).unsqueeze(1), network.value(image, f16, common.used(masks))

    def read(key: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return unflatten_hw(attend(flatten_hw(key), keys, values, top_k, "l2"), key)

    def decode(readout: Tensor, thin: Tensor, f4: Tensor, f8: Tensor) -> Tensor:
        return common.probabilities(network.decode(Query(common.fine(f4, f8), thin, thin), readout))

    asked, frame = common.plane(keys), common.plane(values)
    masked = {"image": common.picture(), "masks": common.probs()}
    found = {"readout": common.own(values), "thin": frame, **{name: features[name] for name in ("f4", "f8")}}
    chain = common.growing(network.memory_every, network.memory_previous, network.memory_bound, anew=True)
    first = "The first frame goes through `encode`, too: `memorise` takes its key and feature."
    parts = (
        Graph("encode", encode, {"image": common.picture()}, {"key": asked, "thin": frame, **features}, common.ENCODE),
        Graph("memorise", memorise, masked | {"key": asked, "f16": features["f16"]}, new, common.MEMORISE),
        Graph("read", read, {"key": asked, **memory}, {"readout": common.own(values)}, common.READ),
        Graph("decode", decode, found, common.distribution(), common.DECODE),
    )
    return Graphs(parts, (*chain, first), common.PRODUCT)
