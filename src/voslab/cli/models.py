"""Reads the specification of a model from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from voslab.cli.entry import plain
from voslab.core import ConfigError
from voslab.core.resources import resource
from voslab.methods.builder import LoadedModel, ModelSpec, build_model


def model_spec(config: DictConfig) -> ModelSpec:
    """Return the specification of `checkpoint=…`, or of `model=… [weights=…] [base_weights=…]`.

    If neither is given, it is that of `default_checkpoint`, for programs that have one.

    Args:
        config: Configuration of a program. Its `engine` may override the size and the precision.

    Raises:
        ConfigError: If neither or both are given, or weights are given for a checkpoint.
    """
    model = config.get("model")
    checkpoint = config.get("checkpoint")
    if checkpoint is None and model is None and config.get("default_checkpoint") is not None:
        checkpoint = resource(config.default_checkpoint)
    return ModelSpec(
        checkpoint=_path(checkpoint),
        weights=_path(config.get("weights")),
        base_weights=_path(config.get("base_weights")),
        size=config.engine.size,
        precision=config.engine.precision,
        cache=Path(config.paths.cache),
        **({} if model is None else ModelSpec.model_fields(plain(model))),
    )


def load_model(config: DictConfig, as_trained: bool = False) -> LoadedModel:
    """Build the model of a configuration; see `model_spec` and `voslab.methods.builder.build_model`."""
    return build_model(model_spec(config), as_trained)


def _path(value: Any) -> Path | None:
    if value is not None and "://" in str(value):
        raise ConfigError(f"{value}: an address, not a file; download it and give its path")
    return None if value is None else Path(value)
