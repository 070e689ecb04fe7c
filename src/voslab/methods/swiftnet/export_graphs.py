"""SwiftNet outside of Python. What stays in the memory is chosen by whoever keeps it; `compare` says by what."""

from __future__ import annotations

from torch import Tensor

from voslab.core.export_graph import CELLS, MEMORY, OBJECTS, Axis, Graph, Graphs, Shape
from voslab.methods.swiftnet.network import Encoded, Query, SwiftNet
from voslab.nn import matching_graphs as common
from voslab.nn.affinity import attend
from voslab.nn.blocks import flatten_hw, unflatten_hw
from voslab.nn.pixel_memory import max_cosine
from voslab.nn.resnet import Pyramid


def graphs(network: SwiftNet) -> Graphs:
    """See `Graphs`."""
    features = common.pyramid(network.encoder.channels)
    fine = {name: features[name] for name in ("f4", "f8")}
    asked, seen = (common.plane(layer.out_channels) for layer in (network.query.key, network.query.value))
    keys, values = network.memory.key.out_channels, network.memory.value.out_channels
    memory, new = (common.remembered(keys, values, False, positions) for positions in (MEMORY, CELLS))
    similarity: dict[str, Shape] = {"similarity": (1, OBJECTS, CELLS)}
    c1 = (1, network.encoder.conv1.out_channels, Axis("rows", 8), Axis("columns", 8))

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        (c1, pyramid), key, value = network.encode(image)
        return key, value, c1, *pyramid

    def memorise(masks: Tensor, c1: Tensor, f4: Tensor, f8: Tensor, f16: Tensor) -> tuple[Tensor, ...]:
        return network.remember(Encoded(c1, Pyramid(f4, f8, f16)), common.used(masks))

    def compare(new: Tensor, keys: Tensor) -> Tensor:
        return max_cosine(new, keys)

    def read(key: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return unflatten_hw(attend(flatten_hw(key), keys, values), key)

    def decode(readout: Tensor, value: Tensor, f4: Tensor, f8: Tensor) -> Tensor:
        encoded = Encoded(f4, common.fine(f4, f8))
        return common.probabilities(network.decode(Query(encoded, value, value), readout))

    masked = {"masks": common.probs(), "c1": c1, **features}
    found = {"readout": common.own(values), "value": seen, **fine}
    parts = (
        Graph(
            "encode",
            encode,
            {"image": common.picture()},
            {"key": asked, "value": seen, "c1": c1, **features},
            common.ENCODE,
        ),
        Graph("memorise", memorise, masked, new, common.MEMORISE),
        Graph("compare", compare, {"new": new["keys"], "keys": memory["keys"]}, similarity, COMPARE),
        Graph("read", read, {"key": asked, **memory}, {"readout": common.own(values)}, common.READ),
        Graph("decode", decode, found, common.distribution(), common.DECODE),
    )
    return Graphs(parts, (common.BEGIN, *_memory(network), common.FOLLOWING, common.END, common.LATE), common.PRODUCT)


def _memory(network: SwiftNet) -> tuple[str, ...]:
    share, bound, previous = network.policy.share, network.policy.bound, network.policy.previous
    if network.trigger == "every_k":
        when = f"In frames {network.memory_every}, {2 * network.memory_every}, …"
    else:
        enough, image, mask = network.thresholds
        when = (
            f"Where the shares of pixels that changed (a channel by more than {image} or an object's probability by "
            f"more than {mask} since the frame before), summed over frames since the last such frame, reach {enough}:"
        )
    most = "" if bound is None else f" Of more than {bound} frames' worth, the oldest shares go, not the first frame."
    kept = "is read as a whole until the next one is memorised" if previous else "is not kept besides"
    return (
        "Before each later frame: `memorise` the one before it, with the features that `encode` gave. The first frame "
        f"(through `encode`, too) stays as a whole. Any later one {kept}.",
        f"{when} a share of {share} of the frame stays: `compare` its keys (as `new`) with those that stay, and keep, "
        f"object by object, the cells - floor(cells * {1 - share:g}) positions of lowest similarity.{most}",
    )


COMPARE = "each new position's largest cosine similarity with those in the memory, 1 objects cells"
