"""Reads weight files without executing code from them."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from voslab.core.checkpoint import METADATA_KEY, CheckpointMetadata
from voslab.core.errors import CheckpointError
from voslab.core.resources import resource

PREFIX = "segmenter."
"""Prefix of the network's keys in the state dict of a checkpoint."""
_WRAPPERS = ("module.", "model.", "segmenter.", "_orig_mod.", "net.")
"""Prefixes that DistributedDataParallel, Lightning modules, `torch.compile` and training scripts add to all keys."""
_MOST_VIEWS = 4
"""Tensors may share memory, as tied weights do, but no more often than this on average."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Content of a weights file.

    Args:
        path: The file.
        tensors: State dict of the network; the keys of other programs' files are as published.
        metadata: None for files that other programs wrote.
    """

    path: Path
    tensors: dict[str, Tensor]
    metadata: CheckpointMetadata | None


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint of this project, or the weights file of another program.

    Args:
        path: A `.safetensors` file or a PyTorch archive, or the folder of a run.

    Returns:
        The tensors of the network on the CPU, and the metadata.

    Raises:
        CheckpointError: See `read_archive`. Also if a tensor is sparse, quantized or complex, or has more values than
            the file holds.
    """
    path = find_checkpoint(Path(path))
    content = read_archive(path)
    tensors = find_tensors(content)
    _check_stored(tensors, path)
    if METADATA_KEY not in content:
        return Checkpoint(Path(path), strip_wrappers(tensors), None)
    own = {key.removeprefix(PREFIX): value for key, value in tensors.items() if key.startswith(PREFIX)}
    return Checkpoint(Path(path), own, _metadata(content, path))


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint of a run folder, the best one if there is one; a path of a file is returned unchanged.

    Args:
        path: A file, or a folder that training wrote.

    Raises:
        CheckpointError: If the folder has no checkpoint.
    """
    if not path.is_dir():
        return path
    candidates = [path / folder / f"{name}.ckpt" for folder in ("checkpoints", "") for name in ("best", "last")]
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        raise CheckpointError(
            f"{path}: a folder without checkpoints/best.ckpt or last.ckpt; give a run folder or a file"
        )
    return found


def strip_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that wrappers add to all keys of a state dict.

    Args:
        tensors: State dict.

    Example:
        >>> import torch
        >>> from voslab.core.archive import strip_wrappers
        >>> list(strip_wrappers({"model._orig_mod.a.weight": torch.zeros(1), "model._orig_mod.b": torch.zeros(1)}))
        ['a.weight', 'b']
    """
    while tensors and (prefix := next((p for p in _WRAPPERS if all(key.startswith(p) for key in tensors)), None)):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def read_archive(path: Path | str) -> dict[str, Any]:
    """Read a `.safetensors` file or a PyTorch archive of plain types, on the CPU.

    Args:
        path: The file.

    Returns:
        Content of the archive. For a safetensors file of this project, the metadata of its header is under `vos` and
        the tensors are under `state_dict`, as in a checkpoint.

    Raises:
        CheckpointError: If the file is missing or damaged, holds anything but tensors and plain values, or has
            metadata of wrong types.
    """
    path = Path(path)
    if not path.is_file() and not path.is_absolute() and resource(str(path)).is_file():
        # Recipes name the weights of this project relative to the checkout, and run from any working directory.
        path = resource(str(path))
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    try:
        content: Any = _read_safe(path) if path.suffix == ".safetensors" else _read_torch(path)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: holds more than tensors and plain values, refused") from error
    except Exception as error:  # libraries raise arbitrary exceptions on damaged bytes
        reason = (str(error).splitlines() or [""])[0].partition(". This is an internal")[0]
        raise CheckpointError(f"{path}: damaged or no weights file ({reason or type(error).__name__})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a state dict")
    _metadata(content, path)
    return content


def _metadata(content: dict[str, Any], path: Path | str) -> CheckpointMetadata | None:
    values = content.get(METADATA_KEY)
    return CheckpointMetadata.from_dict(values, path) if isinstance(values, dict) and "method" in values else None


def _read_torch(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # torch stores tensors uncompressed. Compressed ones could expand to any size.
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("its members are compressed, as torch never does")
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise ValueError("its members overlap, as torch never writes them")
    with warnings.catch_warnings():
        # Warnings about pickle protocols: an unreadable file raises anyway.
        warnings.simplefilter("ignore")
        return torch.load(path, "cpu", weights_only=True)


def _read_safe(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        metadata = (file.metadata() or {}).get(METADATA_KEY)
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return tensors if metadata is None else {METADATA_KEY: json.loads(metadata), "state_dict": tensors}


def find_tensors(content: dict[str, Any]) -> dict[str, Tensor]:
    """Find the state dict of an archive.

    Args:
        content: Of the archive. The state dict is at the top level, or under `state_dict`, `net`, `network` or `model`.

    Returns:
        Its tensors, their keys without the prefix `module.`.

    Example:
        >>> import torch
        >>> from voslab.core.archive import find_tensors
        >>> find_tensors({"net": {"module.weight": torch.zeros(1)}, "epoch": 3})
        {'weight': tensor([0.])}
    """
    for key in ("state_dict", "net", "network", "model"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = ((key, value) for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor))
    return {key.removeprefix("module."): value for key, value in tensors}


def _check_stored(tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Check that tensors are dense arrays and that the file holds all their values, of which many could be views."""
    stored: dict[int, int] = {}
    wanted = 0
    for key, tensor in tensors.items():
        if not is_dense(tensor):
            raise CheckpointError(f"{path}: '{key}' is not made of real, finite numbers")
        storage, size = tensor.untyped_storage(), tensor.numel() * tensor.element_size()
        stored[storage.data_ptr()] = storage.nbytes()
        wanted += size
        if size > storage.nbytes():
            raise CheckpointError(f"{path}: '{key}' is {tuple(tensor.shape)}, more values than the file holds")
    if wanted > _MOST_VIEWS * sum(stored.values()):
        raise CheckpointError(f"{path}: its tensors have more values than the file holds")


def is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor is an ordinary array of real numbers on the CPU.

    Args:
        tensor: Tensor of a weights file.
    """
    plain = tensor.layout is torch.strided and not tensor.is_nested and not tensor.is_quantized
    return plain and not tensor.is_complex() and tensor.device.type == "cpu"
