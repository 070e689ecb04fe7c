"""Segmenters from configurations, checkpoints and weight files. Nothing of Lightning is loaded for them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import nn

from voslab.cli.entry import plain
from voslab.cli.loading import FROM_BASE, load_light_encoder, load_weights, read_metadata, segmenter_tensors
from voslab.core import CheckpointError, ConfigError, Segmenter
from voslab.core.resources import resource
from voslab.core.weights import load_tensors, read_archive
from voslab.engine import Settings
from voslab.engine.codec_source import CodecSource
from voslab.methods import registry
from voslab.nn.inference import for_inference

_log = logging.getLogger(__name__)
LIGHT_ENCODER = ("backbone", "norm", "width")
"""What a wrapper's own encoder is built from."""
CACHE = Path(".cache")


@dataclass(frozen=True, slots=True)
class Model:
    """A segmenter in evaluation mode, and how it should be run.

    Attributes:
        name: of its method.
        segmenter: what runs.
        settings: how.
        coding: where it looks at codec side data.
        network: the plain parameters that it is built from.
        training: how many `steps` and `minutes` its checkpoint took, where that tells.
        parameters: how many it has, before norms are folded into convolutions.
    """

    name: str
    segmenter: Segmenter[Any]
    settings: Settings
    codec_source: CodecSource | None = None
    network: dict[str, Any] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)
    parameters: int = 0


def load_model(config: DictConfig, as_trained: bool = False) -> Model:
    """The segmenter that `checkpoint=…` or `model=… [weights=…]` asks for, with `engine` overrides.

    Where neither is given, `config.default` names a checkpoint of this checkout, if the program has one.

    Args:
        config: of a program.
        as_trained: leave out what `for_inference` does, after which a state dict is another one.

    Raises:
        ConfigError: if neither or both are given.
        CheckpointError: for a file that cannot be read or does not fit.
    """
    checkpoint, named = config.checkpoint, config.get("model") is not None
    if checkpoint is None and not named and config.get("default") is not None:
        checkpoint = resource(config.default)
    if (checkpoint is None) != named:
        raise ConfigError("give either checkpoint=FILE or model=NAME")
    if checkpoint is not None:
        if config.weights is not None or config.get("base_weights") is not None:
            raise ConfigError("weights=FILE and base_weights=FILE go with model=NAME; a checkpoint has its own")
        model = from_checkpoint(Path(checkpoint), Path(config.paths.cache), as_trained)
    else:
        network, settings = network_parameters(config)
        segmenter = registry.build(config.model.name, network)
        load_all(segmenter, config)
        codec_source = CodecSource.from_plain(codec_cache(config.paths.cache), codec_options(config))
        model = _evaluating(Model(config.model.name, segmenter, settings, codec_source, network), as_trained)
    asked = {key: config.engine[key] for key in ("size", "precision") if config.engine[key] is not None}
    return replace(model, settings=replace(model.settings, **asked))


def warn_of_random(config: DictConfig, model: Model) -> None:
    """Say so where nobody gave weights to a network that has some: what it makes is noise."""
    given = config.get("model") is None or config.weights is not None or config.get("base_weights") is not None
    if not given and isinstance(model.segmenter, nn.Module) and next(model.segmenter.parameters(), None) is not None:
        _log.warning("model=%s without weights=FILE is a network of random numbers", model.name)


def from_checkpoint(path: Path, cache: Path = CACHE, as_trained: bool = False) -> Model:
    """Rebuild what `src.train` wrote, to be run as it was validated.

    Args:
        path: the checkpoint.
        cache: folder of the files that are encoded for it, where it looks at codec side data.
        as_trained: see `load_model`.

    Raises:
        CheckpointError: if the file is not one of ours; published weights go with `model=NAME weights=FILE`.
    """
    content = read_archive(path)
    metadata = content.get("vos")
    if not isinstance(metadata, dict) or "method" not in metadata:
        raise CheckpointError(f"{path}: not a checkpoint of src.train; for other weights say model=NAME weights={path}")
    segmenter = registry.build(metadata["method"], metadata["network"])
    assert isinstance(segmenter, nn.Module)
    tensors = segmenter_tensors(content)
    wanted, given = (any(key.startswith("base.") for key in keys) for keys in (segmenter.state_dict(), tensors))
    if wanted and not given:
        use = f"model={metadata['method']} base_weights=FILE weights={path}"
        raise CheckpointError(f"{path}: holds what its base gets, without the base: say {use}")
    load_tensors(segmenter, tensors, path)
    try:
        codec_source = CodecSource.from_plain(codec_cache(cache), metadata.get("coding"))
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    settings = Settings.metadata(metadata["engine"], path)
    model = Model(
        metadata["method"], segmenter, settings, codec_source, metadata["network"], metadata.get("training", {})
    )
    return _evaluating(model, as_trained)


def codec_options(config: DictConfig) -> dict[str, Any] | None:
    """How pictures are coded for a model that looks at it, as plain values; None: plain pictures."""
    if config.model.get("encoding") is None:
        return None
    return {name: plain(config.model[name]) for name in ("encoding", "motion", "fill")}


def codec_cache(cache: Path | str) -> Path:
    """Where videos lie that were encoded for a model that looks at codec side data."""
    return Path(cache) / "coded"


def network_parameters(config: DictConfig) -> tuple[dict[str, Any], Settings]:
    """What the network is built from, and how it is run.

    A wrapper's base whose weights are a checkpoint of ours is as that says; so is the base of `weights` without
    `base_weights`. Its own encoder is as `weights` says, or the base where it is initialised from that.

    Raises:
        ConfigError: weights for the base of a model that wraps none; an encoder like that of a base without.
    """
    network: dict[str, Any] = plain(config.model.network)
    given = config.get("base_weights")
    if "base" not in network:
        if given is not None:
            raise ConfigError(f"base_weights={given}: model '{config.model.name}' wraps no base")
        return network, Settings()
    settings, trained, base = Settings(), read_metadata(config.weights), read_metadata(given)
    if base is not None:
        owner, _ = _owner(network, base["method"])
        owner["base"] = {"name": base["method"], "network": base["network"]}
        settings = Settings.metadata(base["engine"], given)
    elif given is None and trained is not None and "base" in trained["network"]:
        network["base"], settings = trained["network"]["base"], Settings.metadata(trained["engine"], config.weights)
    like: dict[str, Any] = {}
    if trained is not None:
        like = trained["network"]
    elif config.model.get("encoder_weights") == FROM_BASE:
        last = _owner(network)[0]["base"]
        like = last["network"]
        if LIGHT_ENCODER[0] not in like:
            raise ConfigError(f"model.encoder_weights=base: the base '{last['name']}' has no encoder")
    return {**network, **{key: like[key] for key in LIGHT_ENCODER if key in like}}, settings


def _owner(network: dict[str, Any], method: str = "") -> tuple[dict[str, Any], str]:
    """Whose `base` weights of a method are for, and that base's place: where a base wraps another, the innermost."""
    place = "base"
    while "base" in network["base"]["network"] and network["base"]["name"] != method:
        network, place = network["base"]["network"], f"{place}.base"
    return network, place


def load_all(segmenter: Segmenter[Any], config: DictConfig) -> None:
    """Load `base_weights`, a wrapper's own encoder, then `weights`; a base that was given stays."""
    given = config.get("base_weights")
    if given is not None:
        assert isinstance(segmenter, nn.Module)
        base = read_metadata(given)
        owner, place = _owner(plain(config.model.network), "" if base is None else base["method"])
        name = owner["base"]["name"] if base is None else base["method"]
        load_weights(segmenter.get_submodule(place), name, Path(given))  # type: ignore[arg-type]
    encoder = config.model.get("encoder_weights")
    if encoder is not None and registry.method(config.model.name).convert_encoder() is not None:
        load_light_encoder(segmenter, config.model.name, encoder)
    if config.weights is not None:
        load_weights(segmenter, config.model.name, Path(config.weights), keep_base=given is not None)


def _evaluating(model: Model, as_trained: bool) -> Model:
    segmenter = model.segmenter
    assert isinstance(segmenter, nn.Module)
    parameters = sum(parameter.numel() for parameter in segmenter.parameters())
    if as_trained:
        segmenter.eval().requires_grad_(False)
    else:
        for_inference(segmenter)
    return replace(model, parameters=parameters)
