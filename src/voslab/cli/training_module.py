"""LightningModules from configurations, checkpoints and weight files."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig
from torch import nn

from voslab.cli.entry import plain
from voslab.cli.instantiate import instantiate
from voslab.cli.loading import load_encoders, read_metadata
from voslab.cli.models import codec_cache, codec_options, load_all, network_parameters
from voslab.core import ConfigError, Segmenter
from voslab.engine import Settings
from voslab.engine.codec_source import CodecSource
from voslab.methods import registry
from voslab.training.module import VOSModule

ENCODERS = ("encoder", "mask_encoder")
"""Submodules that `model.<name>_weights` initialises from a classification checkpoint."""


def training_module(config: DictConfig) -> VOSModule:
    """The LightningModule of `model`, with `weights` or the encoder's weights loaded.

    Raises:
        ConfigError: for a method that does not learn, or a wrapper whose frozen parts have no weights.
    """
    name: str = config.model.name
    module = registry.method(name).module()
    if module is None:
        raise ConfigError(f"model '{name}' has nothing to train")
    network, _ = network_parameters(config)
    segmenter = registry.build(name, network)
    encoders = {part: file for part in ENCODERS if (file := config.model.get(f"{part}_weights")) is not None}
    if "base" not in network:
        load_encoders(segmenter, encoders)
    elif read_metadata(config.weights) is None:
        _require(config, segmenter)
    load_all(segmenter, config)
    codec_source = codec_options(config)
    settings = Settings(**plain(config.engine))
    built: VOSModule = module(
        segmenter=segmenter,
        recipe=instantiate(config.model.training),
        settings=settings,
        identity={"method": name, "network": network, **({} if codec_source is None else {"coding": codec_source})},
        pretrained=bool(encoders) or config.weights is not None or config.base_weights is not None,
    )
    if codec_source is not None:
        built.codec_source = CodecSource.from_plain(codec_cache(config.paths.cache), codec_source)
    return built


def _require(config: DictConfig, segmenter: Segmenter[Any]) -> None:
    """Raise `ConfigError` where a wrapper's frozen parts, which do not train, would be random."""
    assert isinstance(segmenter, nn.Module)
    name = config.model.name
    if config.get("base_weights") is None and next(segmenter.get_submodule("base").parameters(), None) is not None:
        raise ConfigError(f"model={name} trains over a base that is trained: say base_weights=FILE")
    if getattr(segmenter, "encoder", None) is not None and config.model.get("encoder_weights") is None:
        raise ConfigError(f"model={name}: its light encoder does not train: say model.encoder_weights=base, or a FILE")
