"""Loads state dicts into networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core.archive import is_dense, read_checkpoint
from voslab.core.errors import CheckpointError
from voslab.core.method import Convert

STCN_MODULES = {
    "res2.": "layer1.",
    "attention.ChannelGate.mlp.1.": "attention.channel.0.",
    "attention.ChannelGate.mlp.3.": "attention.channel.2.",
    "attention.SpatialGate.spatial.conv.": "attention.spatial.",
    "skip_conv.": "skip.",
    "out_conv.": "block.",
}
"""Names inside the modules that published STCN and XMem have in common, and ours."""


def rename(key: str, names: Mapping[str, str], inside: Mapping[str, str] | None = None) -> str:
    """Translate a published key to the name in this project.

    Args:
        key: Published key.
        names: Replacements of the key's prefix.
        inside: Replacements of the prefix of the rest.

    Returns:
        The translated key; parts without a replacement stay as they are.

    Example:
        >>> from voslab.core.weights import rename
        >>> rename("Encoder.res2.0.conv1.weight", {"Encoder.": "encoder."}, {"res2.": "layer1."})
        'encoder.layer1.0.conv1.weight'
    """
    result = ""
    for table in (names, inside or {}):
        prefix = next((prefix for prefix in table if key.startswith(prefix)), "")
        result += table.get(prefix, "")
        key = key.removeprefix(prefix)
    return result + key


def split_stem(stem: Tensor) -> dict[str, Tensor]:
    """Split the first convolution of a published mask encoder into its image part and its mask part.

    Args:
        stem: C 5 7 7 weights over image, object mask and the mask of all other objects. C 4 7 7 weights, from the
            first training stage, have no input for other objects; its weights are set to zero.

    Returns:
        The weights under the keys of this project.
    """
    others = F.pad(stem[:, 3:], (0, 0, 0, 0, 0, 5 - stem.shape[1]))
    return {"mask_encoder.conv1.weight": stem[:, :3], "mask_encoder.conv1_mask.weight": others}


def load_tensors(network: nn.Module, tensors: dict[str, Tensor], source: Path | str) -> None:
    """Load a state dict that must have exactly the keys and shapes of a network.

    Args:
        network: Network to change.
        tensors: Its state dict.
        source: File to name in errors.

    Raises:
        CheckpointError: If a key is missing, unknown or has another shape, or if values are complex, sparse or not
            finite. The message names the first such key.
    """
    check_shapes({key: value.shape for key, value in network.state_dict().items()}, tensors, source)
    # Checked after the shapes, because a few bytes in a file may declare any number of values.
    if odd := sorted(key for key in tensors if not _is_plain(tensors[key])):
        raise CheckpointError(f"{source}: '{odd[0]}' is not made of real, finite numbers")
    network.load_state_dict(tensors)


def check_shapes(shapes: Mapping[str, torch.Size], tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Check that a state dict has exactly the keys and shapes of a network.

    Args:
        shapes: Shapes of the network's state dict.
        tensors: State dict of a file.
        source: File to name in errors.

    Raises:
        CheckpointError: If a key is missing, unknown or has another shape. The message names the first such key.
    """
    missing = sorted(shapes.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - shapes.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{source}: does not fit this network: {len(missing)} keys missing{_example(missing)}, "
            f"{len(unknown)} unknown{_example(unknown)}"
        )
    if wrong := [key for key in sorted(shapes) if shapes[key] != tensors[key].shape]:
        ours, given = (tuple(found) for found in (shapes[wrong[0]], tensors[wrong[0]].shape))
        raise CheckpointError(f"{source}: '{wrong[0]}' is {given}, this network's is {ours}")


def _is_plain(tensor: Tensor) -> bool:
    return is_dense(tensor) and bool(torch.isfinite(tensor).all())


def load_encoder(encoder: nn.Module, path: Path | str, convert: Convert | None = None) -> None:
    """Load an encoder from a classification checkpoint or from the frame encoder of a checkpoint of this project.

    The classifier is ignored, as is `layer4` where the encoder has none. Parts that the file lacks keep their values:
    the mask's first convolution, batch counters, and `layer4` if the file is a checkpoint without one. Missing
    convolution biases are set to zero.

    Args:
        encoder: ResNet with torchvision's key names, or another network with the same names of its layers.
        path: The file.
        convert: Renames the keys of a classification checkpoint; None from it: they are those of the encoder.

    Raises:
        CheckpointError: If the file cannot be read, does not fit, or is a checkpoint without an encoder.
    """
    checkpoint = read_checkpoint(path)
    tensors = checkpoint.tensors
    ours = encoder.state_dict()
    if checkpoint.metadata is not None:
        tensors = {key.removeprefix("encoder."): value for key, value in tensors.items() if key.startswith("encoder.")}
        if not tensors:
            raise CheckpointError(f"{path}: a checkpoint without an encoder")
        if not any(key.startswith("layer4.") for key in tensors):
            tensors |= {key: value for key, value in ours.items() if key.startswith("layer4.")}
    elif convert is not None:
        tensors = convert(tensors) or tensors
    left_out = ("fc.", *(() if hasattr(encoder, "layer4") else ("layer4.",)))
    kept = {key: value for key, value in tensors.items() if not key.startswith(left_out)}
    # Files saved before PyTorch 0.4.1 have no batch counters.
    for key in ours.keys() - kept.keys():
        if key.endswith("num_batches_tracked") or key.startswith("conv1_mask."):
            kept[key] = ours[key]
        elif _is_bias_of_convolution(encoder, key):
            kept[key] = torch.zeros_like(ours[key])
    load_tensors(encoder, kept, path)


def _is_bias_of_convolution(network: nn.Module, key: str) -> bool:
    owner, _, name = key.rpartition(".")
    return name == "bias" and isinstance(network.get_submodule(owner), nn.Conv2d)


def _example(keys: list[str]) -> str:
    return f" (first: {keys[0]})" if keys else ""
