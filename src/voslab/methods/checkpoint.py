"""Loads checkpoints, published weights and encoders into networks, and writes networks as safetensors files."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from voslab.core import CheckpointError, ConfigError, Segmenter, atomic_path
from voslab.core.archive import PREFIX, Checkpoint, read_checkpoint
from voslab.core.checkpoint import METADATA_KEY, CheckpointMetadata
from voslab.core.weights import check_shapes, load_encoder, load_tensors
from voslab.methods import registry
from voslab.nn.efficientnet_lite import convert as convert_published
from voslab.nn.efficientnet_lite import imagenet_weights

_log = logging.getLogger(__name__)
IMAGENET = "imagenet"
"""Value of `encoder_weights` that stands for the ImageNet weights of an installed package."""
FROM_BASE = "base"
"""Value of `encoder_weights` that stands for the encoder of the wrapped base."""


def check_resumed(path: Path, metadata: CheckpointMetadata) -> None:
    """Check that a checkpoint holds the network of the run that resumes from it.

    Args:
        path: Checkpoint to resume from.
        metadata: Of the network that would train on.

    Raises:
        CheckpointError: If the file cannot be read, or its method or a network parameter differs.
    """
    before = read_checkpoint(path).metadata
    if before is None:
        raise CheckpointError(f"{path}: not a checkpoint of src.train")
    if before.method != metadata.method:
        raise CheckpointError(f"{path}: a run of '{before.method}' cannot go on as '{metadata.method}'")
    old, new = before.network, metadata.network
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            raise CheckpointError(f"{path}: the run began with network.{name}={old.get(name)}, not {new.get(name)}")


def check_declared(checkpoint: Checkpoint, metadata: CheckpointMetadata, with_base: bool = True) -> None:
    """Check that the tensors of a checkpoint have the shapes that its metadata declares.

    The network is not built. So a small file that declares a large network is refused before it takes memory.

    Args:
        checkpoint: Content of the file.
        metadata: Its metadata.
        with_base: Whether the file must hold the base of a wrapper; otherwise the base is ignored.

    Raises:
        CheckpointError: If the parameters are invalid, a tensor does not fit, or the base is missing.
    """
    path, tensors = checkpoint.path, checkpoint.tensors
    try:
        shapes = registry.shapes(metadata.method, metadata.network)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not with_base:
        shapes = {key: shape for key, shape in shapes.items() if not key.startswith("base.")}
        tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith("base.")}
    elif any(key.startswith("base.") for key in shapes) and not any(key.startswith("base.") for key in tensors):
        use = f"model={metadata.method} base_weights=FILE weights={path}"
        raise CheckpointError(f"{path}: holds what its base gets, without the base: say {use}")
    check_shapes(shapes, tensors, path)


def merge(sources: Sequence[Path], target: Path, engine: Mapping[str, Any] | None = None) -> None:
    """Average the networks of checkpoints and write the result as a safetensors file in half precision.

    The average of the checkpoints of one run, or of a run and of another that went on from it, is often better than
    each of them (model soups, Wortsman et al. 2022).

    Args:
        sources: One or more checkpoints of this project, of the same network.
        target: File to write; it is a checkpoint too, without the optimizer and with the metadata of the last source.
        engine: Fields of `voslab.engine.Settings` that replace those of the metadata.

    Raises:
        CheckpointError: If a source is not a checkpoint of this project, or is of another network than the first one.
        WriteError: If `target` cannot be written.
    """
    checkpoints = [read_checkpoint(source) for source in sources]
    first, last = checkpoints[0], checkpoints[-1]
    shapes = {key: value.shape for key, value in first.tensors.items()}
    for checkpoint in checkpoints:
        if checkpoint.metadata is None or first.metadata is None:
            raise CheckpointError(f"{checkpoint.path}: not a checkpoint of src.train")
        if checkpoint.metadata.method != first.metadata.method:
            raise CheckpointError(f"{checkpoint.path}: a network of another method than {first.path}")
        check_shapes(shapes, checkpoint.tensors, checkpoint.path)
    assert last.metadata is not None
    tensors = {
        key: torch.stack([checkpoint.tensors[key].float() for checkpoint in checkpoints]).mean(0).half()
        if value.is_floating_point()
        else value
        for key, value in last.tensors.items()
    }
    engine = {**last.metadata.engine, **(engine or {})}
    _write_safe(target, tensors, replace(last.metadata, engine=engine))


def write_weights(segmenter: Segmenter[Any], target: Path, metadata: CheckpointMetadata) -> None:
    """Write a network as a safetensors file that `checkpoint=` accepts.

    Args:
        segmenter: The network, as trained.
        target: File to write.
        metadata: Of the network.

    Raises:
        WriteError: If `target` cannot be written.
    """
    _write_safe(target, segmenter.state_dict(), metadata)


def _write_safe(target: Path, tensors: Mapping[str, Tensor], metadata: CheckpointMetadata) -> None:
    with atomic_path(target) as path:
        prefixed = {f"{PREFIX}{key}": value.contiguous() for key, value in tensors.items()}
        save_file(prefixed, path, {METADATA_KEY: json.dumps(metadata.to_dict())})


def load_weights(
    segmenter: Segmenter[Any],
    method: str,
    checkpoint: Checkpoint,
    keep: tuple[str, ...] = (),
    as_variant: bool = False,
) -> None:
    """Initialise a network from a checkpoint, a plain state dict, or published weights of the method.

    Tensors of `optional_modules` that this configuration of the network leaves out are ignored.

    Args:
        segmenter: Network to change.
        method: Its registry name.
        checkpoint: Content of the file.
        keep: Prefixes of submodules that stay as they are, whatever the file has: the base of a wrapper.
        as_variant: Whether `variant_modules` that do not fit keep their initial values, and are dropped where the
            network has none. One line is logged about them.

    Raises:
        CheckpointError: If the file is of another method or does not fit.
    """
    path, own = checkpoint.path, segmenter.state_dict()
    if checkpoint.metadata is not None:
        if checkpoint.metadata.method != method:
            raise CheckpointError(f"{path}: a checkpoint of '{checkpoint.metadata.method}', not of '{method}'")
        tensors = checkpoint.tensors
        if keep:
            kept = {key: value for key, value in own.items() if key.startswith(keep)}
            tensors = {**{key: value for key, value in tensors.items() if not key.startswith(keep)}, **kept}
    else:
        tensors = _converted(checkpoint.tensors, method, path)
        # Published weights of a wrapper come without its base.
        left_out = ("",) if segmenter.base is not None else segmenter.unpublished_modules
        tensors = {**{key: value for key, value in own.items() if key.startswith(left_out)}, **tensors}
    absent = tuple(part for part in segmenter.optional_modules if not any(key.startswith(part) for key in own))
    tensors = {key: value for key, value in tensors.items() if not key.startswith(absent)}
    load_tensors(segmenter, _fit_variant(segmenter, tensors, path) if as_variant else tensors, path)


def _fit_variant(segmenter: Segmenter[Any], tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors for a variant: without those it lacks, and with its own where they do not fit."""
    own, parts = segmenter.state_dict(), segmenter.variant_modules
    dropped = [key for key in tensors if key.startswith(parts) and key not in own]
    fits = [key for key in own if key in tensors and tensors[key].shape == own[key].shape]
    fresh = [key for key in own if key.startswith(parts) and key not in fits]
    said = [f"{what} {_parts(keys, parts)}" for what, keys in (("dropped", dropped), ("fresh", fresh)) if keys]
    if said:
        _log.warning("%s: loaded into another variant of the network: %s", path, "; ".join(said))
    return {**{key: value for key, value in tensors.items() if key not in dropped}, **{key: own[key] for key in fresh}}


def _parts(keys: list[str], prefixes: tuple[str, ...]) -> str:
    """Format the number of tensors of each part."""
    counts = Counter(next(prefix for prefix in prefixes if key.startswith(prefix)) for key in keys)
    return ", ".join(f"{prefix.rstrip('.')} ({count} tensor{'s' * (count > 1)})" for prefix, count in counts.items())


def load_light_encoder(segmenter: Segmenter[Any], method: str, source: str) -> None:
    """Initialise the light encoder of a wrapper, if it has one.

    Args:
        segmenter: The wrapper, with the weights of its base.
        method: Its registry name.
        source: File of classification weights, published weights or a checkpoint; `imagenet` for those of an installed
            package; or `base` for the base's encoder.

    Raises:
        CheckpointError: If the file cannot be read, has no encoder, or does not fit.
        ConfigError: If the base has no encoder, or one of another shape.
    """
    encoder = segmenter.frame_encoder
    convert = registry.method(method).convert_encoder()
    assert convert is not None, "wrappers with an encoder have a converter"
    if encoder is None:
        return
    if source == FROM_BASE:
        base = segmenter
        while base.base is not None:
            base = base.base
        tensors = convert(base.state_dict())
        if tensors is None:
            raise ConfigError("model.encoder_weights=base: the base has no encoder")
        try:
            load_tensors(encoder, tensors, "model.encoder_weights=base")
        except CheckpointError as error:
            raise ConfigError(str(error)) from error
        return
    checkpoint = read_checkpoint(imagenet_weights(encoder) if source == IMAGENET else source)
    tensors = convert(convert_published(checkpoint.tensors) or checkpoint.tensors)
    if tensors is None:
        raise CheckpointError(f"{source}: no encoder in it")
    # Files saved before PyTorch 0.4.1 have no batch counters.
    counts = {key: value for key, value in encoder.state_dict().items() if key.endswith("num_batches_tracked")}
    load_tensors(encoder, {**counts, **tensors}, source)


def load_encoders(segmenter: Segmenter[Any], files: Mapping[str, str]) -> None:
    """Initialise encoders from classification weights or checkpoints.

    Args:
        segmenter: Network to change.
        files: Weights file by the name of the submodule; see `voslab.core.weights.load_encoder`. `imagenet` stands for
            the file of an installed package; see `voslab.nn.efficientnet_lite.imagenet_weights`.

    Raises:
        CheckpointError: If a file cannot be read or does not fit.
        ConfigError: If `imagenet` is given and there is no such package, or it is not installed.
    """
    for part, file in files.items():
        encoder = segmenter.get_submodule(part)
        path = imagenet_weights(encoder) if file == IMAGENET else Path(file)
        load_encoder(encoder, path, convert_published)


def _converted(tensors: dict[str, Tensor], method: str, path: Path) -> dict[str, Tensor]:
    """Translate published tensors to the keys of this project; other tensors are returned unchanged.

    Raises:
        CheckpointError: If they were published for another method.
    """
    for name in sorted(registry.names(), key=lambda name: name != method):
        convert = registry.method(name).convert()
        ours = convert(tensors) if convert else None
        if ours is not None and name != method:
            raise CheckpointError(f"{path}: published weights of '{name}', not of '{method}'")
        if ours is not None:
            return ours
    return tensors
