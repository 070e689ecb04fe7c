"""GAM and GC outside of Python: the memory is one matrix per object, `context`, that goes in and comes out."""

from __future__ import annotations

import torch
from torch import Tensor

from voslab.core.export_graph import OBJECTS, Axis, Graph, Graphs, Shape
from voslab.methods.gam.network import GAM, Encoded
from voslab.nn import matching_graphs as common
from voslab.nn.blocks import flatten_hw, unflatten_hw
from voslab.nn.memory import normalise_query


def graphs(network: GAM) -> Graphs:
    """See `Graphs`."""
    features = common.pyramid(network.encoder.channels)
    keys, values = network.project.key.out_channels, network.project.value.out_channels
    asked, seen = common.plane(keys), common.plane(values)
    context: Shape = (1, OBJECTS, keys, values)

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        pyramid, key, value = network.encode(image)
        return key, value, *pyramid

    def memorise(
        image: Tensor, masks: Tensor, key: Tensor, f16: Tensor, context: Tensor, rate: Tensor
    ) -> tuple[Tensor, ...]:
        key, value = network.remember(image, f16, key, common.used(masks))
        return (context + (key.transpose(2, 3) @ value - context) * rate.view(1, -1, 1, 1),)

    def read(key: Tensor, context: Tensor) -> Tensor:
        return unflatten_hw(normalise_query(flatten_hw(key), network.query_norm).unsqueeze(1) @ context, key)

    def embed(past: Tensor) -> Tensor:
        assert network.mem is not None
        return torch.unflatten(network.mem(past.flatten(0, 1)), 0, past.shape[:2])

    def decode(readout: Tensor, value: Tensor, f4: Tensor, f8: Tensor, embedded: Tensor | None = None) -> Tensor:
        encoded = Encoded(common.fine(f4, f8), value, value)
        return common.probabilities(network.decode(encoded, readout, embedded))

    masked = {"image": common.picture(), "masks": common.probs(), "key": asked, "f16": features["f16"]}
    found = {"readout": common.own(values), "value": seen, "f4": features["f4"], "f8": features["f8"]}
    parts = [
        Graph("encode", encode, {"image": common.picture()}, {"key": asked, "value": seen, **features}, common.ENCODE),
        Graph("memorise", memorise, {**masked, "context": context, "rate": (OBJECTS,)}, {"updated": context}, MEMORISE),
        Graph("read", read, {"key": asked, "context": context}, {"readout": common.own(values)}, common.READ),
    ]
    if network.mem is not None:
        past = (1, OBJECTS, network.mem.history, Axis("rows", 16), Axis("columns", 16))
        found["embedded"] = common.own(network.mem.conv4.out_channels)
        parts.append(Graph("embed", embed, {"past": past}, {"embedded": found["embedded"]}, EMBED))
    parts.append(Graph("decode", decode, found, common.distribution(), common.DECODE))
    return Graphs(tuple(parts), _chain(network), common.PRODUCT)


def _chain(network: GAM) -> tuple[str, ...]:
    every = network.update_every
    which = "each later frame" if every == 1 else f"frames 1, {every + 1}, {2 * every + 1}, …"
    memory = (
        f"Before {which}: `memorise` the frame before with its final masks (its key and f16 are those of `encode`, "
        "which the first frame goes through, too). `context` begins with zeros; `rate` is 1 / n for an object of which "
        "n frames have been memorised with this one, 0 to leave its context as it is."
    )
    embed = (
        "" if network.mem is None else "`embed` the last masks, newest first, the first ones for what is before them, "
    )
    following = f"Each later frame: `encode`, `read`, {embed}then `decode`."
    late = (
        common.LATE.partition(" Memorise all together")[0] + " Their context is zero, too, and grows by its own rate."
    )
    return common.BEGIN, memory, following, common.END, late


MEMORISE = "a frame with its masks joins the running mean of all before it"
EMBED = "each object's last masks (1 objects history H W), in terms of where it went"
