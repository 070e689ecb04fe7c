"""Tensors from files into segmenters: checkpoints of ours, published weights, encoders, wrappers and their bases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from voslab.core import CheckpointError, ConfigError, Segmenter, atomic_path
from voslab.core.weights import find_tensors, load_encoder, load_tensors, read_archive
from voslab.methods import registry

FROM_BASE = "base"
"""In place of a file of encoder weights: those of the wrapped base."""


def read_metadata(path: Path | str | None) -> dict[str, Any] | None:
    """What a checkpoint of ours says of itself; None for other files.

    Raises:
        CheckpointError: if the file cannot be read.
    """
    found = None if path is None else read_archive(path).get("vos")
    return found if isinstance(found, dict) and "method" in found else None


def check_resumed(path: Path, identity: dict[str, Any]) -> None:
    """See that a run goes on with the network that it began with.

    Raises:
        CheckpointError: the file cannot be read, or holds another method's network, or one of other parameters.
    """
    metadata = read_metadata(path)
    if metadata is None:
        raise CheckpointError(f"{path}: not a checkpoint of src.train")
    if metadata["method"] != identity["method"]:
        raise CheckpointError(f"{path}: a run of '{metadata['method']}' cannot go on as '{identity['method']}'")
    before, now = metadata["network"], identity["network"]
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise CheckpointError(f"{path}: the run began with network.{name}={before.get(name)}, not {now.get(name)}")


def segmenter_tensors(content: dict[str, Any]) -> dict[str, Tensor]:
    """The network of a checkpoint of ours."""
    tensors = find_tensors(content)
    return {key.removeprefix("segmenter."): value for key, value in tensors.items() if key.startswith("segmenter.")}


def write_half(source: Path, target: Path) -> None:
    """Write what evaluation needs of one of our checkpoints, the network in half precision, as a safetensors file.

    Raises:
        CheckpointError: if `source` is not one of ours.
        WriteError: if `target` cannot be written.
    """
    content = read_archive(source)
    if "vos" not in content:
        raise CheckpointError(f"{source}: not a checkpoint of src.train")
    _write_safe(target, {key: value.half() for key, value in segmenter_tensors(content).items()}, content["vos"])


def write_weights(segmenter: Segmenter[Any], target: Path, metadata: dict[str, Any]) -> None:
    """Write a network as a safetensors file that is a checkpoint of ours: `told` is its method, network and engine.

    Raises:
        WriteError: if `target` cannot be written.
    """
    assert isinstance(segmenter, nn.Module)
    _write_safe(target, segmenter.state_dict(), metadata)


def _write_safe(target: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    with atomic_path(target) as path:
        prefixed = {f"segmenter.{key}": value.contiguous() for key, value in tensors.items()}
        save_file(prefixed, path, {"vos": json.dumps(metadata)})


def load_weights(segmenter: Segmenter[Any], method: str, path: Path, keep_base: bool = False) -> None:
    """Initialise from our checkpoint, a file of our tensors, or a published checkpoint of the method.

    Args:
        segmenter: what is initialised.
        method: its registry name.
        path: the file.
        keep_base: a wrapper keeps the base it has, whatever the file holds.

    What the file has of a part that this network's `optional_modules` names and its switches left out is not looked at.

    Raises:
        CheckpointError: for a file of another method, naming it where it is one of ours.
    """
    assert isinstance(segmenter, nn.Module)
    content = read_archive(path)
    described = content.get("vos")
    if isinstance(described, dict):
        if described.get("method") != method:
            raise CheckpointError(f"{path}: a checkpoint of '{described.get('method')}', not of '{method}'")
        tensors = segmenter_tensors(content)
        if keep_base:
            own = {key: value for key, value in segmenter.state_dict().items() if key.startswith("base.")}
            tensors = {**{key: value for key, value in tensors.items() if not key.startswith("base.")}, **own}
    else:
        tensors = _converted(find_tensors(content), method, path)
        if hasattr(segmenter, "base"):
            # Published weights of a wrapper come without its base.
            tensors = {**segmenter.state_dict(), **tensors}
    own = segmenter.state_dict()
    optional = getattr(segmenter, "optional_modules", ())
    off = tuple(part for part in optional if not any(key.startswith(part) for key in own))
    load_tensors(segmenter, {key: value for key, value in tensors.items() if not key.startswith(off)}, path)


def load_light_encoder(segmenter: Segmenter[Any], method: str, source: str) -> None:
    """Initialise a wrapper's own encoder, where it has one, from a file or its base.

    Args:
        segmenter: the wrapper, its base already loaded.
        method: its registry name.
        source: a file of classification, published or our own weights; or `base`.

    Raises:
        CheckpointError: the file cannot be read, has no encoder, or another one.
        ConfigError: the base has no encoder, or another one.
    """
    assert isinstance(segmenter, nn.Module)
    encoder = getattr(segmenter, "encoder", None)
    convert = registry.method(method).convert_encoder()
    assert convert is not None, "wrappers with an encoder have a converter"
    if encoder is None:
        return
    if source == FROM_BASE:
        base: nn.Module = segmenter
        while hasattr(base, "base"):
            base = base.get_submodule("base")
        tensors = convert(base.state_dict())
        if tensors is None:
            raise ConfigError("model.encoder_weights=base: the base has no encoder")
        try:
            load_tensors(encoder, tensors, "model.encoder_weights=base")
        except CheckpointError as error:
            raise ConfigError(str(error)) from error
        return
    content = read_archive(source)
    tensors = convert(segmenter_tensors(content) if "vos" in content else find_tensors(content))
    if tensors is None:
        raise CheckpointError(f"{source}: no encoder in it")
    # Files saved before PyTorch 0.4.1 do not count batches.
    counts = {key: value for key, value in encoder.state_dict().items() if key.endswith("num_batches_tracked")}
    load_tensors(encoder, {**counts, **tensors}, source)


def load_encoders(segmenter: Segmenter[Any], files: dict[str, str]) -> None:
    """Initialise submodules, by name, from files that `load_encoder` reads. Raises `CheckpointError`."""
    assert isinstance(segmenter, nn.Module)
    for part, file in files.items():
        load_encoder(segmenter.get_submodule(part), Path(file))


def _converted(tensors: dict[str, Tensor], method: str, path: Path) -> dict[str, Tensor]:
    """Published tensors of the method under our names; ours as they are.

    Raises:
        CheckpointError: they are another method's.
    """
    for name in sorted(registry.names(), key=lambda name: name != method):
        convert = registry.method(name).convert()
        ours = convert(tensors) if convert else None
        if ours is not None and name != method:
            raise CheckpointError(f"{path}: published weights of '{name}', not of '{method}'")
        if ours is not None:
            return ours
    return tensors
