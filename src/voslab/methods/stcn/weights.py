"""Published STCN checkpoints (`stcn.pth`, `stcn_s0.pth`, …) -> our names."""

from __future__ import annotations

from torch import Tensor

from voslab.core.weights import STCN_MODULES, rename, split_stem

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


def convert(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename a published state dict's keys, split its mask encoder's first convolution; None if it is not STCN's."""
    published = {key.removeprefix("module."): tensor for key, tensor in published.items()}
    if not {MASK_STEM, "key_proj.key_proj.weight", "key_comp.weight"} <= published.keys():
        return None
    stem = published.pop(MASK_STEM)
    return {rename(key, NAMES, STCN_MODULES): tensor for key, tensor in published.items()} | split_stem(stem)
