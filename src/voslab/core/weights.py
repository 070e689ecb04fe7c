"""Reads weight files without ever running what is in them."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from voslab.core.errors import CheckpointError


def read_archive(path: Path | str) -> dict[str, Any]:
    """Read a `.safetensors` file or a PyTorch archive of plain types, on the CPU.

    What a checkpoint of ours has under `vos`, a safetensors file of ours has as JSON in its metadata.

    Raises:
        CheckpointError: if the file is missing, damaged, or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    try:
        content: Any = _read_safe(path) if path.suffix == ".safetensors" else _read_torch(path)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: holds more than tensors and plain values, refused") from error
    except Exception as error:  # whatever it is, a library raises it because of these bytes
        reason = (str(error).splitlines() or [""])[0].partition(". This is an internal")[0]
        raise CheckpointError(f"{path}: damaged or no weights file ({reason or type(error).__name__})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a state dict")
    _check_description(content.get("vos"), path)
    return content


def _read_torch(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # torch stores its tensors plain; packed ones would unpack to whatever size they declare.
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("its members are compressed, as torch never does")
    with warnings.catch_warnings():
        # About pickle protocols: what cannot be read is an error anyway.
        warnings.simplefilter("ignore")
        return torch.load(path, "cpu", weights_only=True)


def _check_description(metadata: Any, path: Path) -> None:
    """What a checkpoint of ours says of itself: names and plain parameters. Raises `CheckpointError`."""
    if not isinstance(metadata, dict) or "method" not in metadata:
        return
    for key, kind in (("method", str), ("network", dict), ("engine", dict)):
        if not isinstance(metadata.get(key), kind):
            raise CheckpointError(
                f"{path}: damaged, its '{key}' is no {'name' if kind is str else 'set of parameters'}"
            )
    cost = metadata.get("training", {})
    if not isinstance(cost, dict) or not all(isinstance(value, int | float) for value in cost.values()):
        raise CheckpointError(f"{path}: damaged, its 'training' is no set of numbers")


def _read_safe(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        about = (file.metadata() or {}).get("vos")
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return tensors if about is None else {"vos": json.loads(about), "state_dict": tensors}


def find_tensors(content: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict of an archive: at the top or under one of the field's usual names, without a `module.` prefix."""
    for key in ("state_dict", "net", "network", "model"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = ((key, value) for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor))
    return {key.removeprefix("module."): value for key, value in tensors}


def rename(key: str, names: Mapping[str, str], inside: Mapping[str, str] | None = None) -> str:
    """A published key under our name: its prefix replaced by `names`, then the beginning of the rest by `inside`.

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
    """A first convolution over image, mask and others (C 5 7 7) as our mask encoder's two.

    Networks of the first training stage know no other objects (C 4 7 7): their weight for those is zero.
    """
    others = F.pad(stem[:, 3:], (0, 0, 0, 0, 0, 5 - stem.shape[1]))
    return {"mask_encoder.conv1.weight": stem[:, :3], "mask_encoder.conv1_mask.weight": others}


def load_tensors(network: nn.Module, tensors: dict[str, Tensor], source: Path | str) -> None:
    """Load every tensor, and nothing but, into a network.

    Raises:
        CheckpointError: naming the first key that is missing, unknown, of another shape, or whose values are complex,
            sparse, infinite or no numbers.
    """
    ours = network.state_dict()
    missing = sorted(ours.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - ours.keys())
    wrong = [key for key in ours.keys() & tensors.keys() if ours[key].shape != tensors[key].shape]
    if missing or unknown:
        raise CheckpointError(
            f"{source}: does not fit this network: {len(missing)} keys missing{_example(missing)}, "
            f"{len(unknown)} unknown{_example(unknown)}"
        )
    if wrong:
        key = min(wrong)
        raise CheckpointError(
            f"{source}: '{key}' is {tuple(tensors[key].shape)}, this network's is {tuple(ours[key].shape)}"
        )
    # Not before their shapes are known: a few bytes in a file may stand for any number of values.
    if odd := sorted(key for key in tensors if not _is_plain(tensors[key])):
        raise CheckpointError(f"{source}: '{odd[0]}' is not made of real, finite numbers")
    network.load_state_dict(tensors)


def _is_plain(tensor: Tensor) -> bool:
    dense = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_complex()
    return dense and bool(torch.isfinite(tensor).all())


def load_encoder(encoder: nn.Module, path: Path | str) -> None:
    """Load a classification checkpoint with torchvision's key names, or the frame encoder of a checkpoint of ours.

    A classifier is left out, as is the last layer where the encoder has none; what an encoder has besides, the first
    convolution of a mask, stays as it is, as does `layer4` where a checkpoint of ours has none. Biases of convolutions
    that the file does not have are zero.

    Raises:
        CheckpointError: like `read_archive` and `load_tensors`; a checkpoint of ours without an encoder.
    """
    content = read_archive(path)
    tensors = find_tensors(content)
    ours = encoder.state_dict()
    if "vos" in content:
        prefix = "segmenter.encoder."
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if not tensors:
            raise CheckpointError(f"{path}: a checkpoint without an encoder")
        if not any(key.startswith("layer4.") for key in tensors):
            tensors |= {key: value for key, value in ours.items() if key.startswith("layer4.")}
    left_out = ("fc.", *(() if hasattr(encoder, "layer4") else ("layer4.",)))
    kept = {key: value for key, value in tensors.items() if not key.startswith(left_out)}
    # Files saved before PyTorch 0.4.1 do not count batches.
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
