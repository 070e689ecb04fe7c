"""Builds the LightningModule of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from voslab.cli.entry import plain
from voslab.cli.instantiate import instantiate
from voslab.core import ConfigError, Segmenter
from voslab.core.archive import read_checkpoint
from voslab.core.parameters import check_parameters
from voslab.engine.settings import Settings
from voslab.methods import registry
from voslab.methods.builder import CACHE, ModelSpec, build_network
from voslab.training.module import VOSModule
from voslab.training.recipe import Recipe


def training_module(config: DictConfig) -> VOSModule:
    """Build the LightningModule of `model`, with `weights` or the weights of its encoders.

    Args:
        config: Configuration of `src.train`.

    Raises:
        ConfigError: See `build_module`; also if the method has nothing to train.
        CheckpointError: If a file cannot be read or does not fit.
    """
    values = {key: value for key, value in plain(config.model).items() if not key.startswith("_")}
    if registry.method(values["name"]).module() is None:
        raise ConfigError(f"model '{values['name']}' has nothing to train")
    check_parameters(build_module, values, "model.")
    return build_module(
        **values,
        weights=config.weights,
        base_weights=config.base_weights,
        engine=plain(config.engine),
        cache=config.paths.cache,
    )


def build_module(
    name: str,
    network: Mapping[str, Any],
    training: Mapping[str, Any] | Recipe,
    encoder_weights: str | None = None,
    mask_encoder_weights: str | None = None,
    base: Mapping[str, Any] | None = None,
    encoding: Mapping[str, Any] | None = None,
    motion: str = "codec",
    intra_fill: str = "nearest",
    keys: Mapping[str, Any] | None = None,
    vectors: str | None = None,
    *,
    weights: str | Path | None = None,
    base_weights: str | Path | None = None,
    engine: Mapping[str, Any] | None = None,
    cache: str | Path = CACHE,
) -> VOSModule:
    """Build a LightningModule from the values of a `conf/model` file, whose `_target_` this is.

    Args:
        name: Registry name of the method.
        network: Parameters of its network, including those of a wrapper's base.
        training: Training settings, or the configuration of a `Recipe`.
        encoder_weights: Classification weights or a checkpoint for the encoder; `base` for that of a wrapper's base.
        mask_encoder_weights: The same for the mask encoder.
        base: Configuration from which `network` takes the base; not used here.
        encoding: Encoder settings of codec data; see `CodecSource`.
        motion: Source of motion vectors.
        intra_fill: Motion of intra blocks.
        keys: Key frames of coded video.
        vectors: Files of vectors of another decoder.
        weights: Initial weights: a checkpoint, a plain state dict or published weights of the method. In a checkpoint
            of another variant, `variant_modules` that do not fit are dropped or start fresh.
        base_weights: The same for the base of a wrapper.
        engine: Settings of validation; None for the defaults.
        cache: Folder for videos that are encoded for the model.

    Returns:
        The module.

    Raises:
        ConfigError: If a parameter is unknown, the method has nothing to train, or frozen parts have no weights.
        CheckpointError: If a file cannot be read or does not fit.
    """
    module = registry.method(name).module()
    if module is None:
        raise ConfigError(f"model '{name}' has nothing to train")
    codec = {"encoding": plain(encoding), "motion": motion, "intra_fill": intra_fill, "keys": plain(keys or {})}
    codec["vectors"] = vectors
    spec = ModelSpec(
        **ModelSpec.model_fields(
            {"name": name, "network": plain(network), "encoder_weights": encoder_weights, **codec}
        ),
        weights=None if weights is None else Path(weights),
        base_weights=None if base_weights is None else Path(base_weights),
        as_variant=True,
        cache=Path(cache),
    )
    if "base" not in spec.network:
        files = {"encoder": encoder_weights, "mask_encoder": mask_encoder_weights}
        spec = replace(spec, encoders={part: file for part, file in files.items() if file is not None})
    model = build_network(spec)
    _check_frozen_parts(spec, model.segmenter)
    settings = Settings(**plain(engine or {}))
    stored = {"size": settings.size, "precision": settings.precision}
    built: VOSModule = module(
        segmenter=model.segmenter,
        recipe=training if isinstance(training, Recipe) else instantiate(training, "model.training"),
        settings=settings,
        metadata=replace(model.metadata, engine=stored),
        pretrained=model.pretrained,
        codec_source=model.codec_source,
    )
    return built


def _check_frozen_parts(spec: ModelSpec, segmenter: Segmenter[Any]) -> None:
    """Check that the parts of a wrapper that do not train have weights.

    Raises:
        ConfigError: If the base or the light encoder would be random.
    """
    base = segmenter.base
    if base is None or (spec.weights is not None and read_checkpoint(spec.weights).metadata is not None):
        return
    if spec.base_weights is None and next(base.parameters(), None) is not None:
        raise ConfigError(f"model={spec.model} trains over a base that is trained: say base_weights=FILE")
    if segmenter.frame_encoder is not None and spec.encoder_weights is None:
        raise ConfigError(
            f"model={spec.model}: its light encoder does not train: say model.encoder_weights=base, or a FILE"
        )
