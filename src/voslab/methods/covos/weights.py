"""Converts published CoVOS weights (`covos_propagator.pth`, `covos_light_encoder.pth`)."""

from __future__ import annotations

from torch import Tensor

from voslab.core.weights import rename

PREFIX = "soft_propagation."
NAMES = {
    "feat_transform.": "decoder.confidence.own.",
    "feat_warp_transform.": "decoder.confidence.carried.",
    "conv_res.0.": "decoder.conv1.",
    "conv_res.1.": "decoder.conv2.",
    "conv_res.2.": "decoder.blocks.0.",
    "conv_res.3.": "decoder.blocks.1.",
    "conv_res.4.": "decoder.blocks.2.",
    "classifier.0.": "decoder.predict.",
}
ENCODERS = ("rgb_encoder.", "key_encoder.", "encoder.", "")
LAYERS = {"res2.": "layer1."}


def convert(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Rename the keys of the published decoder; base and encoder are in other files.

    Returns:
        The state dict; None if the keys are not those of CoVOS.
    """
    published = {key.removeprefix("module.").removeprefix(PREFIX): tensor for key, tensor in published.items()}
    if not {"feat_transform.weight", "conv_res.0.weight", "classifier.0.weight"} <= published.keys():
        return None
    return {rename(key, NAMES): tensor for key, tensor in published.items()}


def convert_encoder(published: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """Extract the keys of the light encoder (`conv1.`, `bn1.`, `layer1.`) from a larger encoder.

    Args:
        published: `covos_light_encoder.pth`, a checkpoint of MiVOS or STCN, torchvision's names, or a base of ours.

    Returns:
        The state dict; None if there is no such encoder.
    """
    published = {key.removeprefix("module."): tensor for key, tensor in published.items()}
    for prefix in ENCODERS:
        if f"{prefix}conv1.weight" in published:
            inside = {key.removeprefix(prefix): tensor for key, tensor in published.items() if key.startswith(prefix)}
            ours = {rename(key, LAYERS): tensor for key, tensor in inside.items()}
            return {key: tensor for key, tensor in ours.items() if key.startswith(("conv1.", "bn1.", "layer1."))}
    return None
