"""Published XMem checkpoints (`XMem.pth`, `XMem-no-sensory.pth`, …) -> our names."""

from __future__ import annotations

import torch
from torch import Tensor

from voslab.core.weights import STCN_MODULES, rename, split_stem

PARTS, CONVOLUTIONS = ("value_encoder", "decoder"), ("conv1", "downsample")
MASK_STEM = "value_encoder.conv1.weight"
NAMES = {
    "key_encoder.": "encoder.",
    "value_encoder.fuser.": "fuser.",
    "value_encoder.hidden_reinforce.": "deep_update.",
    "value_encoder.": "mask_encoder.",
    "key_proj.key_proj.": "key.",
    "key_proj.d_proj.": "shrinkage.",
    "key_proj.e_proj.": "selection.",
    "decoder.up_16_8.": "decoder.refine8.",
    "decoder.up_8_4.": "decoder.refine4.",
    "decoder.pred.": "decoder.predict.",
    "decoder.hidden_update.g16_conv.": "decoder.update.project.0.",
    "decoder.hidden_update.g8_conv.": "decoder.update.project.1.",
    "decoder.hidden_update.g4_conv.": "decoder.update.project.2.",
    "decoder.hidden_update.": "decoder.update.update.",
    "decoder.fuser.": "decoder.fuser.",
}
FUSED = tuple(f"{part}.fuser.block1.{name}.weight" for part in PARTS for name in CONVOLUTIONS)
"""Convolutions over the frame's feature and those of an object, in this order; ours have the object first."""


def convert(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename a published state dict's keys and reorder input channels; None if it is not XMem's."""
    published = {key.removeprefix("module."): tensor for key, tensor in published.items()}
    if not {MASK_STEM, "key_proj.d_proj.weight", "key_proj.e_proj.weight", *FUSED} <= published.keys():
        return None
    stem = published.pop(MASK_STEM)
    shared = published["key_proj.d_proj.weight"].shape[1]
    for key in FUSED:
        weight = published[key]
        published[key] = torch.cat([weight[:, shared:], weight[:, :shared]], 1)
    return {rename(key, NAMES, STCN_MODULES): tensor for key, tensor in published.items()} | split_stem(stem)
