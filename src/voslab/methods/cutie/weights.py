"""Published Cutie checkpoints (`cutie-base-mega.pth`, …) -> our names."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from voslab.core.weights import rename, split_stem

MASK_STEM = "mask_encoder.conv1.weight"
COMPRESS = "pixel_fuser.compress.weight"
NAMES = {
    "pixel_encoder.": "encoder.",
    "pix_feat_proj.": "pixel.",
    "key_proj.pix_feat_proj.": "key_input.",
    "key_proj.key_proj.": "key.",
    "key_proj.d_proj.": "shrinkage.",
    "key_proj.e_proj.": "selection.",
    "mask_encoder.fuser.": "value_fuser.",
    "mask_encoder.sensory_update.": "deep_update.",
    "pixel_fuser.sensory_compress.": "pixel_fuser.compress.",
    "pixel_fuser.fuser.": "pixel_fuser.fuser.",
    "object_summarizer.input_proj.": "summariser.project.",
    "object_summarizer.feature_pred.": "summariser.feature.",
    "object_summarizer.weights_pred.": "summariser.weight.",
    "object_transformer.query_init.weight": "transformer.query",
    "object_transformer.query_emb.weight": "transformer.query_code",
    "object_transformer.summary_to_query_init.": "transformer.summary_query.",
    "object_transformer.summary_to_query_emb.": "transformer.summary_code.",
    "object_transformer.pixel_init_proj.": "transformer.pixel.",
    "object_transformer.pixel_emb_proj.": "transformer.pixel_code.",
    **{f"object_transformer.mask_pred.{i}.1.": f"transformer.predict.{i}." for i in range(4)},
    **{f"object_transformer.blocks.{i}.": f"transformer.blocks.{i}." for i in range(3)},
    "mask_decoder.decoder_feat_proc.transforms.0.": "decoder.refine8.skip.",
    "mask_decoder.decoder_feat_proc.transforms.1.": "decoder.refine4.skip.",
    "mask_decoder.up_16_8.out_conv.": "decoder.refine8.block.",
    "mask_decoder.up_8_4.out_conv.": "decoder.refine4.block.",
    "mask_decoder.pred.": "decoder.predict.",
    "mask_decoder.sensory_update.g16_conv.": "decoder.update.project.0.",
    "mask_decoder.sensory_update.g8_conv.": "decoder.update.project.1.",
    "mask_decoder.sensory_update.g4_conv.": "decoder.update.project.2.",
    "mask_decoder.sensory_update.": "decoder.update.update.",
    "aux_computer.sensory_aux.projection.": "auxiliary.",
}
ATTENTIONS = {
    "read_from_pixel.cross_attn": "read_pixels.attention",
    "self_attn.self_attn": "read_queries.attention",
    "read_from_query.cross_attn": "pixels",
}
MODULES = {
    "res2.": "layer1.",
    "distributor.x_transform.": "image.",
    "distributor.g_transform.": "object.",
    "block1.conv.": "block1.attention.",
    "block2.conv.": "block2.attention.",
    **{
        f"{theirs}.{layer}": f"{ours}.{name}"
        for theirs, ours in ATTENTIONS.items()
        for layer, name in (("in_proj_", "project."), ("out_proj.", "out."))
    },
    "read_from_pixel.": "read_pixels.",
    "self_attn.": "read_queries.",
    "ffn.norm.": "feedforward.0.",
    "ffn.linear1.": "feedforward.1.",
    "ffn.linear2.": "feedforward.3.",
    "pixel_ffn.conv.conv.": "refine.attention.",
    "pixel_ffn.conv.": "refine.",
}
"""Names inside these modules."""
CONSTANTS = ("object_transformer.spatial_pe.inv_freq", "object_summarizer.pos_enc.inv_freq")
"""Frequencies of the position code, which is computed here."""


def convert(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename a published state dict's keys; None if it is not Cutie's."""
    published = {key.removeprefix("module."): tensor for key, tensor in published.items()}
    if not {MASK_STEM, "key_proj.d_proj.weight", "object_transformer.query_init.weight"} <= published.keys():
        return None
    stem = published.pop(MASK_STEM)
    kept = {key: tensor for key, tensor in published.items() if key not in CONSTANTS}
    ours = {rename(key, NAMES, MODULES): tensor for key, tensor in kept.items()} | split_stem(stem)
    if COMPRESS in ours and stem.shape[1] == 4:
        # Weights of the first training stage have no channel for other objects.
        ours[COMPRESS] = F.pad(ours[COMPRESS], (0, 0, 0, 0, 0, 1))
    return ours
