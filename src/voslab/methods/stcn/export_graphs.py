"""Exported graphs of STCN, whose memory keys are the query keys of the memorised frames."""

from __future__ import annotations

from torch import Tensor

from voslab.core.export_graph import CELLS, MEMORY, ExportGraph
from voslab.methods.stcn.network import STCN
from voslab.methods.stcn.state import Query
from voslab.nn import matching_graphs as common
from voslab.nn.affinity import attend
from voslab.nn.blocks import flatten_hw, unflatten_hw
from voslab.nn.encoders import LightMaskEncoder


def graphs(network: STCN) -> tuple[ExportGraph, ...]:
    """Return the graphs in the order in which they run."""
    top_k = network.top_k
    keys, values = network.key.out_channels, network.thin.out_channels
    memory, new = (common.memory_shapes(keys, values, True, positions) for positions in (MEMORY, CELLS))
    features = common.pyramid_shapes(network.encoder.channels)
    query = {"key": common.frame_shape(keys), "thin": common.frame_shape(values), **features}
    readout = {"readout": common.object_shape(values)}

    def encode(image: Tensor) -> tuple[Tensor, ...]:
        (f4, f8, f16), key, thin = network.encode(image)
        return key, thin, f4, f8, f16

    def memorise(image: Tensor, masks: Tensor, key: Tensor, f16: Tensor) -> tuple[Tensor, ...]:
        return flatten_hw(key).unsqueeze(1), network.value(image, (f16,), common.all_slots(masks))

    def memorise_light(masks: Tensor, key: Tensor, f4: Tensor, f8: Tensor, f16: Tensor) -> tuple[Tensor, ...]:
        # A light value encoder does not look at the image.
        return flatten_hw(key).unsqueeze(1), network.value(masks, (f4, f8, f16), common.all_slots(masks))

    def read(key: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return unflatten_hw(attend(flatten_hw(key), keys, values, top_k, "l2"), key)

    def decode(readout: Tensor, thin: Tensor, f4: Tensor, f8: Tensor) -> Tensor:
        return common.aggregated(network.decode(Query(common.decoder_pyramid(f4, f8), thin, thin), readout))

    def decode_joined(readout: Tensor, masks: Tensor, thin: Tensor, f4: Tensor, f8: Tensor) -> Tensor:
        return decode(network.join_masks(readout, common.all_slots(masks)), thin, f4, f8)

    light = isinstance(network.mask_encoder, LightMaskEncoder)
    used = {name: query[name] for name in (("key", *features) if light else ("key", "f16"))}
    memorised = {**({} if light else common.IMAGE), **common.MASKS, **used}
    fine = {name: query[name] for name in ("thin", "f4", "f8")}
    previous = common.MASKS if network.previous_mask else {}
    return (
        ExportGraph("encode", encode, common.IMAGE, query),
        ExportGraph("memorise", memorise_light if light else memorise, memorised, new),
        ExportGraph("read", read, {"key": query["key"], **memory}, readout),
        ExportGraph("decode", decode_joined if previous else decode, readout | previous | fine, common.PROBABILITIES),
    )
