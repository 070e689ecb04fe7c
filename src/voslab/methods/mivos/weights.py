"""Published propagation networks of MiVOS and Mask-Propagation (`propagation_model.pth`) -> our names."""

from __future__ import annotations

from torch import Tensor

from voslab.core.weights import rename, split_stem

MASK_STEM = "mask_rgb_encoder.conv1.weight"
NAMES = {
    "mask_rgb_encoder.": "mask_encoder.",
    "rgb_encoder.res2.": "encoder.layer1.",
    "rgb_encoder.": "encoder.",
    "kv_m_f16.key_proj.": "memory.key.",
    "kv_m_f16.val_proj.": "memory.value.",
    "kv_q_f16.key_proj.": "query.key.",
    "kv_q_f16.val_proj.": "query.value.",
    "decoder.up_16_8.": "decoder.refine8.",
    "decoder.up_8_4.": "decoder.refine4.",
    "decoder.pred.": "decoder.predict.",
}
INSIDE = {"skip_conv1.": "skip.", "skip_conv2.": "skip_block.", "out_conv.": "block."}


def convert(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename a published state dict's keys, split its mask encoder's first convolution; None if it is not MiVOS's."""
    published = {key.removeprefix("module."): tensor for key, tensor in published.items()}
    if not {MASK_STEM, "kv_m_f16.key_proj.weight", "decoder.pred.weight"} <= published.keys():
        return None
    stem = published.pop(MASK_STEM)
    return {rename(key, NAMES, INSIDE): tensor for key, tensor in published.items()} | split_stem(stem)
