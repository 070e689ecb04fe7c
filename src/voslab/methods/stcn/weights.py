"""Published STCN checkpoints (`stcn.pth`, `stcn_s0.pth`, …) -> our names."""

from __future__ import annotations

from torch import Tensor

from voslab.core.weights import rename, split_stem

MASK_STEM = "value_encoder.conv1.weight"
NAMES = {
    "key_encoder.": "encoder.",
    "value_encoder.fuser.": "fuser.",
    "value_encoder.": "mask_encoder.",
    "key_proj.key_proj.": "key.",
    "key_comp.": "thin.",
    "decoder.up_16_8.": "decoder.refine8.",
    "decoder.up_8_4.": "decoder.refine4.",
    "decoder.pred.": "decoder.predict.",
}
INSIDE = {
    "res2.": "layer1.",
    "attention.ChannelGate.mlp.1.": "attention.channel.0.",
    "attention.ChannelGate.mlp.3.": "attention.channel.2.",
    "attention.SpatialGate.spatial.conv.": "attention.spatial.",
    "skip_conv.": "skip.",
    "out_conv.": "block.",
}


def convert(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename a published state dict's keys, split its mask encoder's first convolution; None if it is not STCN's."""
    published = {key.removeprefix("module."): tensor for key, tensor in published.items()}
    if not {MASK_STEM, "key_proj.key_proj.weight", "key_comp.weight"} <= published.keys():
        return None
    stem = published.pop(MASK_STEM)
    return {rename(key, NAMES, INSIDE): tensor for key, tensor in published.items()} | split_stem(stem)
