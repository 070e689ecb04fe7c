"""CRVOS outside of Python: no memory but the masks of the frame before."""

from __future__ import annotations

import torch
from torch import Tensor

from voslab.core.export_graph import Graph, Graphs
from voslab.methods.crvos.network import CRVOS
from voslab.nn import matching_graphs as common
from voslab.nn.aggregation import aggregate_min
from voslab.nn.resnet import Pyramid


def graphs(network: CRVOS) -> Graphs:
    """See `Graphs`."""
    channels = network.encoder.channels
    features = common.pyramid((channels[0], channels[1], channels[3]))

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        return tuple(network.encode(image))

    def decode(masks: Tensor, f4: Tensor, f8: Tensor, f16: Tensor) -> Tensor:
        scores = network.decode(Pyramid(f4, f8, f16), network.clue(masks))
        odds = scores[:, :, 1] - scores[:, :, 0]
        return aggregate_min(odds, torch.ones_like(odds[:, :, 0, 0], dtype=torch.bool)).softmax(1)

    parts = (
        Graph("encode", encode, {"image": common.picture()}, features, "a frame's features"),
        Graph("decode", decode, {"masks": common.probs(), **features}, common.distribution(), DECODE),
    )
    following = "Each later frame: `encode`, then `decode` with the masks of the frame before it."
    late = common.LATE.partition(" Memorise all together")[0]
    return Graphs(parts, (common.BEGIN, following, common.END.partition("; without")[0] + AS_MASKS, late), MINIMUM)


DECODE = "the clue of the masks of the frame before, refined by features: aggregated probabilities, background first"
AS_MASKS = ". Without the background they are `masks` for the next frame."
MINIMUM = (
    "p_0 = min_n (1 - p_n) for the background, all p clipped to [1e-7, 1 - 1e-7], then odds p / (1 - p) divided by "
    "their sum; `decode` does it"
)
