"""Builds the LightningModule of a configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from voslab.cli.entry import plain
from voslab.cli.instantiate import instantiate
from voslab.cli.models import model_spec
from voslab.core import ConfigError, Segmenter
from voslab.core.weights import read_checkpoint
from voslab.engine.settings import Settings
from voslab.methods import registry
from voslab.methods.builder import ModelSpec, build_network
from voslab.training.module import VOSModule

ENCODERS = ("encoder", "mask_encoder")
"""Submodules that `model.<name>_weights` initialises from a classification checkpoint."""


def training_module(config: DictConfig) -> VOSModule:
    """Build the LightningModule of `model`, with `weights` or the weights of its encoders.

    Args:
        config: Configuration of `src.train`.

    Raises:
        ConfigError: If the method has nothing to train, or if frozen parts of a wrapper have no weights.
        CheckpointError: If a file cannot be read or does not fit.
    """
    name: str = config.model.name
    module = registry.method(name).module()
    if module is None:
        raise ConfigError(f"model '{name}' has nothing to train")
    spec = model_spec(config)
    if "base" not in spec.network:
        files = {part: config.model.get(f"{part}_weights") for part in ENCODERS}
        spec = replace(spec, encoders={part: file for part, file in files.items() if file is not None})
    model = build_network(spec)
    _check_frozen_parts(spec, model.segmenter)
    settings = Settings(**plain(config.engine))
    engine = {"size": settings.size, "precision": settings.precision}
    built: VOSModule = module(
        segmenter=model.segmenter,
        recipe=instantiate(config.model.training),
        settings=settings,
        metadata=replace(model.metadata, engine=engine),
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
    if getattr(segmenter, "encoder", None) is not None and spec.encoder_weights is None:
        raise ConfigError(
            f"model={spec.model}: its light encoder does not train: say model.encoder_weights=base, or a FILE"
        )
