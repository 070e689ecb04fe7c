"""Exported graphs of CRVOS, which has no memory except the previous frame's masks."""

from __future__ import annotations

import torch
from torch import Tensor

from voslab.core.export_graph import ExportGraph
from voslab.methods.crvos.network import CRVOS
from voslab.nn import matching_graphs as common
from voslab.nn.aggregation import aggregate_min
from voslab.nn.backbone import Pyramid


def graphs(network: CRVOS) -> tuple[ExportGraph, ...]:
    """Return the graphs in the order in which they run."""
    channels = network.encoder.channels
    features = common.pyramid_shapes((channels[0], channels[1], channels[3]))

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        return tuple(network.encode(image))

    def decode(masks: Tensor, f4: Tensor, f8: Tensor, f16: Tensor) -> Tensor:
        scores = network.decode(Pyramid(f4, f8, f16), network.clue(masks))
        logits = scores[:, :, 1] - scores[:, :, 0]
        return aggregate_min(logits, torch.ones_like(logits[:, :, 0, 0], dtype=torch.bool)).softmax(1)

    return (
        ExportGraph("encode", encode, common.IMAGE, features),
        ExportGraph("decode", decode, {**common.MASKS, **features}, common.PROBABILITIES),
    )
