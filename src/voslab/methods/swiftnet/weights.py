"""Published SwiftNet checkpoints -> our names."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from voslab.core.weights import rename

NAMES = {
    "Encoder.": "encoder.",
    "LAE.conv_fusion1.": "reference.fuse4.",
    "LAE.conv_fusion2.": "reference.fuse8.",
    "LAE.conv_fusion3.": "reference.fuse16.",
    "LAE.conv_fusion4.": "reference.conv1.",
    "LAE.conv_fusion5.": "reference.conv2.",
    "KV_Q_r4.Key.": "query.key.",
    "KV_Q_r4.Value.": "query.value.",
    "KV_M_r4.Key.": "memory.key.",
    "KV_M_r4.Value.": "memory.value.",
    "Decoder.convFM.": "decoder.conv.",
    "Decoder.ResMM.": "decoder.block.",
    "Decoder.RF3.": "decoder.refine8.",
    "Decoder.RF2.": "decoder.refine4.",
    "Decoder.pred2.": "decoder.predict.",
    **{f"aspp.aspp{i + 1}.atrous_conv.": f"aspp.branches.{i}." for i in range(4)},
    "aspp.conv1.": "aspp.join.",
}
LAYERS = {"res2.": "layer1.", "res3.": "layer2.", "res4.": "layer3."}
INSIDE = {**LAYERS, "convFS.": "skip.", "ResFS.": "skip_block.", "ResMM.": "block."}


def convert(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename the keys of a published state dict, join its mask convolutions; None if it is not SwiftNet's."""
    published = {key.removeprefix("module."): tensor for key, tensor in published.items()}
    masks = {f"LAE.conv{i}_{which}.weight" for i in (1, 2) for which in "mo"}
    if not masks | {"aspp.conv1.weight"} <= published.keys():
        return None
    ours = {
        f"reference.{name}.weight": torch.cat([published[f"LAE.conv{i}_{which}.weight"] for which in "mo"], 1)
        for i, name in ((1, "stem"), (2, "deep"))
    }
    for key, tensor in published.items():
        if key not in masks and not re.fullmatch(r"Encoder\.(mean|std)", key):
            ours[rename(key, NAMES, INSIDE)] = tensor
    return ours
