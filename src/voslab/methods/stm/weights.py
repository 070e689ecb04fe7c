"""Published STM checkpoints (`STM_weights.pth`) -> our names."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from voslab.core.weights import rename

NAMES = {
    "Encoder_Q.": "encoder.",
    "Encoder_M.": "mask_encoder.",
    "KV_Q_r4.Key.": "query.key.",
    "KV_Q_r4.Value.": "query.value.",
    "KV_M_r4.Key.": "memory.key.",
    "KV_M_r4.Value.": "memory.value.",
    "Decoder.convFM.": "decoder.conv.",
    "Decoder.ResMM.": "decoder.block.",
    "Decoder.RF3.": "decoder.refine8.",
    "Decoder.RF2.": "decoder.refine4.",
    "Decoder.pred2.": "decoder.predict.",
}
LAYERS = {"res2.": "layer1.", "res3.": "layer2.", "res4.": "layer3."}
INSIDE = {**LAYERS, "convFS.": "skip.", "ResFS.": "skip_block.", "ResMM.": "block."}


def convert(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename the keys of a published state dict, join its two mask convolutions; None if it is not STM's."""
    mask, others = (published.get(f"Encoder_M.conv1_{which}.weight") for which in "mo")
    if mask is None or others is None or "Decoder.convFM.weight" not in published:
        return None
    ours = {"mask_encoder.conv1_mask.weight": torch.cat([mask, others], 1)}
    for key, tensor in published.items():
        if not re.fullmatch(r"Encoder_[MQ]\.(mean|std|conv1_[mo]\.weight)", key):
            ours[rename(key, NAMES, INSIDE)] = tensor
    return ours
