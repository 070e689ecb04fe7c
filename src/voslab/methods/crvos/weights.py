"""Published CRVOS checkpoints (`CRVOS_best.tar`, state dict under `net`) -> our names."""

from __future__ import annotations

from torch import Tensor

from voslab.core.weights import rename

NAMES = {
    "vos.backbone.": "encoder.",
    "vos.refine.conv_s16.conv.": "refine.rm1.reduce.",
    "vos.refine.blend_s16.conv.": "refine.rm1.blend.",
    "vos.refine.conv_s8.conv.": "refine.rm2.reduce.",
    "vos.refine.blend_s8.conv.": "refine.rm2.blend.",
    "vos.refine.conv_s4.conv.": "refine.rm3.reduce.",
    "vos.refine.blend_s4.conv.": "refine.rm3.blend.",
    "vos.refine.deconv1_1.": "refine.up1.",
    "vos.refine.deconv1_2.": "refine.skip.",
    "vos.refine.deconv2.": "refine.up2.",
    "vos.refine.deconv3.": "refine.up3.",
    "vos.refine.predictor.": "refine.predictor.",
}


def convert(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename the keys of a published state dict and drop its unused classifier; None if it is not CRVOS's."""
    if "vos.refine.predictor.weight" not in published:
        return None
    kept = {key: tensor for key, tensor in published.items() if not key.startswith("vos.backbone.fc.")}
    return {rename(key, NAMES): tensor for key, tensor in kept.items()}
