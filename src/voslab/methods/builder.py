"""Builds a segmenter that is ready to run from a specification: network, weights, engine settings, codec options."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from voslab.core import CheckpointError, ConfigError, Segmenter
from voslab.core.archive import Checkpoint, read_checkpoint
from voslab.core.checkpoint import CheckpointMetadata
from voslab.core.weights import load_tensors
from voslab.engine.codec_source import CodecSource
from voslab.engine.settings import Precision, Settings
from voslab.methods import registry
from voslab.methods.checkpoint import FROM_BASE, check_declared, load_encoders, load_light_encoder, load_weights
from voslab.nn.inference import for_inference

_log = logging.getLogger(__name__)
LIGHT_ENCODER = ("backbone", "norm", "width")
"""Parameters of a wrapper's own encoder."""
_ENCODER = "encoder."
"""Prefix of a wrapper's own encoder in its state dict."""
CODEC_OPTIONS = ("encoding", "motion", "intra_fill", "keys", "vectors")
"""Fields of `CodecSource` in the configuration of a model."""
CACHE = Path(".cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What to build: either a checkpoint, or a method with network parameters and weights.

    Args:
        checkpoint: Checkpoint of this project.
        model: Registry name of a method.
        network: Parameters of its network.
        weights: Initial weights: a checkpoint, a plain state dict or published weights of the method.
        base_weights: The same for the base of a wrapper.
        encoder_weights: Weights file for the light encoder of a wrapper, or `base` for the encoder of its base; also
            for the encoder of a method whose published weights leave it out.
        base_encoder_weights: The same for a base whose published weights leave it out.
        encoders: Classification weights by the name of the submodule, loaded before `weights`.
        codec: Fields of `CodecSource` but for its cache; None if the model reads plain images.
        size: Working size in pixels; None for the value of the checkpoint.
        precision: Arithmetic of the network; None for the value of the checkpoint.
        as_variant: Whether `weights` may be of another variant of the network; see `Segmenter.variant_modules`.
        cache: Folder for videos that are encoded for the model.

    Raises:
        ConfigError: If neither or both of `checkpoint` and `model` are given, or weights are given with a checkpoint.
    """

    checkpoint: Path | None = None
    model: str | None = None
    network: dict[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    base_weights: Path | None = None
    encoder_weights: str | None = None
    base_encoder_weights: str | None = None
    encoders: dict[str, str] = field(default_factory=dict)
    codec: dict[str, Any] | None = None
    size: int | None = None
    precision: Precision | None = None
    as_variant: bool = False
    cache: Path = CACHE

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.model is None):
            raise ConfigError("give either checkpoint=FILE or model=NAME")
        if self.checkpoint is not None and (self.weights is not None or self.base_weights is not None):
            raise ConfigError("weights=FILE and base_weights=FILE go with model=NAME; a checkpoint has its own")

    @staticmethod
    def model_fields(config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that the plain content of a `conf/model` file sets."""
        return {
            "model": config["name"],
            "network": config["network"],
            "encoder_weights": config.get("encoder_weights"),
            "base_encoder_weights": (config.get("base") or {}).get("encoder_weights"),
            "codec": codec_options(config),
        }


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A segmenter and how to run it.

    Args:
        segmenter: The network.
        settings: Engine settings.
        metadata: What a checkpoint of the network says.
        codec_source: Source of frames with codec data; None if the model reads plain images.
        parameter_count: Number of parameters, before batch norms are folded into convolutions.
        pretrained: Whether weights were loaded.
    """

    segmenter: Segmenter[Any]
    settings: Settings
    metadata: CheckpointMetadata
    codec_source: CodecSource | None = None
    parameter_count: int = 0
    pretrained: bool = False

    @property
    def name(self) -> str:
        """Registry name of the method."""
        return self.metadata.method

    def warn_if_random(self) -> None:
        """Log a warning if the network has parameters and no weights were loaded."""
        if not self.pretrained and self.parameter_count:
            _log.warning("model=%s without weights=FILE is a network of random numbers", self.name)


def codec_options(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the codec options of a model's plain configuration; None if the model reads plain images."""
    return (
        {name: config[name] for name in CODEC_OPTIONS if name in config} if config.get("encoding") is not None else None
    )


def codec_source(options: dict[str, Any] | None, cache: Path | str) -> CodecSource | None:
    """Build the source of frames with codec data.

    Args:
        options: See `codec_options`.
        cache: Cache folder; encoded videos go to its subfolder `coded`.

    Raises:
        ConfigError: If an option is unknown or has a wrong value.
    """
    return CodecSource.from_plain(Path(cache) / "coded", options)


def from_checkpoint(path: Path, cache: Path = CACHE, as_trained: bool = False) -> LoadedModel:
    """Build the model of a checkpoint; see `build_model`."""
    return build_model(ModelSpec(checkpoint=path, cache=cache), as_trained)


def build_model(spec: ModelSpec, as_trained: bool = False) -> LoadedModel:
    """Build a segmenter in evaluation mode.

    Args:
        spec: What to build.
        as_trained: Whether to skip `for_inference`, which changes the keys of the state dict.

    Returns:
        The model, on the CPU.

    Raises:
        ConfigError: If a parameter is unknown or contradicts another.
        CheckpointError: If a file cannot be read or does not fit.
    """
    model = build_network(spec) if spec.checkpoint is None else read_model(spec.checkpoint, spec.cache)
    overrides: dict[str, Any] = {"size": spec.size, "precision": spec.precision}
    settings = replace(model.settings, **{key: value for key, value in overrides.items() if value is not None})
    if as_trained:
        model.segmenter.eval().requires_grad_(False)
    else:
        for_inference(model.segmenter)
    return replace(model, settings=settings)


def build_network(spec: ModelSpec) -> LoadedModel:
    """Build the network of a method and load its weights, without preparing it for evaluation.

    Args:
        spec: With a `model`. Its `size` and `precision` are ignored.

    Returns:
        The model in training mode, all parameters trainable.

    Raises:
        ConfigError: If a parameter is unknown or contradicts another.
        CheckpointError: If a file cannot be read or does not fit.
    """
    assert spec.model is not None
    if spec.base_weights is not None and "base" not in spec.network:
        raise ConfigError(f"base_weights={spec.base_weights}: model '{spec.model}' wraps no base")
    oracle = "base" in spec.network and _is_oracle(spec.network["base"]["name"])
    if oracle and spec.base_weights is not None:
        raise ConfigError(f"base_weights={spec.base_weights}: the base 'oracle' has no weights")
    base, weights = (None if path is None else read_checkpoint(path) for path in (spec.base_weights, spec.weights))
    if base is not None and base.metadata is not None:
        check_declared(base, base.metadata)
    if weights is not None and weights.metadata is not None:
        check_declared(weights, weights.metadata, with_base=base is None and not oracle)
    network, settings = _resolve(spec, base, weights, keep_base=oracle)
    segmenter = registry.build(spec.model, network)
    load_encoders(segmenter, spec.encoders)
    if base is not None:
        method = "" if base.metadata is None else base.metadata.method
        owner, place = _owner(spec.network, method)
        own: Segmenter[Any] = segmenter.get_submodule(place)  # type: ignore[assignment]
        name = method or owner["base"]["name"]
        if spec.base_encoder_weights is not None and registry.method(name).convert_encoder() is not None:
            load_light_encoder(own, name, spec.base_encoder_weights)
        _check_encoder(own, base, spec.base_encoder_weights, "model.base.encoder_weights")
        load_weights(own, name, base)
    if spec.encoder_weights is not None and registry.method(spec.model).convert_encoder() is not None:
        load_light_encoder(segmenter, spec.model, spec.encoder_weights)
    if weights is not None:
        _check_encoder(segmenter, weights, spec.encoder_weights, "model.encoder_weights")
        keep = ("base.",) if oracle or base is not None else ()
        if spec.encoder_weights is not None and not _holds_encoder(weights):
            # Trained on features of its base, and used over one that has none.
            keep = (*keep, _ENCODER)
        load_weights(segmenter, spec.model, weights, keep, as_variant=spec.as_variant)
    pretrained = bool(spec.encoders) or base is not None or weights is not None
    metadata = CheckpointMetadata(spec.model, network, asdict(settings), codec=spec.codec)
    source = codec_source(spec.codec, spec.cache)
    return LoadedModel(segmenter, settings, metadata, source, _parameter_count(segmenter), pretrained)


def _holds_encoder(checkpoint: Checkpoint) -> bool:
    return any(key.startswith(_ENCODER) for key in checkpoint.tensors)


def _check_encoder(segmenter: Segmenter[Any], weights: Checkpoint, encoder_weights: str | None, option: str) -> None:
    """Check that the encoder has weights where those that are published for the method leave it out.

    Raises:
        ConfigError: If there are none.
    """
    left_out = weights.metadata is None and _ENCODER in segmenter.unpublished_modules
    if left_out and encoder_weights is None and not _holds_encoder(weights):
        raise ConfigError(f"{weights.path}: holds no encoder: say {option}=FILE, the ImageNet weights of its backbone")


def read_model(path: Path, cache: Path = CACHE) -> LoadedModel:
    """Build the network of a checkpoint, without preparing it for evaluation.

    Args:
        path: Checkpoint of this project.
        cache: Folder for videos that are encoded for the model.

    Returns:
        The model in training mode, all parameters trainable.

    Raises:
        CheckpointError: If the file cannot be read, or holds a wrapper without its base.
    """
    checkpoint = read_checkpoint(path)
    metadata = checkpoint.metadata
    if metadata is None:
        raise CheckpointError(f"{path}: not a checkpoint of src.train; for other weights say model=NAME weights={path}")
    check_declared(checkpoint, metadata)
    segmenter = registry.build(metadata.method, metadata.network)
    load_tensors(segmenter, checkpoint.tensors, path)
    try:
        source = codec_source(metadata.codec, cache)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from error
    settings = Settings.from_dict(metadata.engine, path)
    return LoadedModel(segmenter, settings, metadata, source, _parameter_count(segmenter), pretrained=True)


def _is_oracle(name: str) -> bool:
    return bool(getattr(registry.method(name).network(), "needs_truth", False))


def _resolve(
    spec: ModelSpec, base: Checkpoint | None, weights: Checkpoint | None, keep_base: bool = False
) -> tuple[dict[str, Any], Settings]:
    """Return the parameters of the network, and engine settings, after checkpoints replaced parts of them.

    A checkpoint in `base_weights` determines the base of a wrapper; without it, a checkpoint in `weights` does,
    unless `keep_base` says that the base of the specification stays. The light encoder is that of `weights`, or that of
    the base if `encoder_weights` is `base`.

    Raises:
        ConfigError: If the light encoder is to be that of a base without an encoder.
    """
    network: dict[str, Any] = deepcopy(spec.network)
    settings = Settings()
    if "base" not in network:
        return network, settings
    trained = None if weights is None else weights.metadata
    if base is not None and base.metadata is not None:
        owner, _ = _owner(network, base.metadata.method)
        owner["base"] = {"name": base.metadata.method, "network": base.metadata.network}
        settings = Settings.from_dict(base.metadata.engine, base.path)
    elif not keep_base and base is None and weights is not None and trained is not None and "base" in trained.network:
        network["base"], settings = trained.network["base"], Settings.from_dict(trained.engine, weights.path)
    encoder: dict[str, Any] = {}
    if weights is not None and trained is not None:
        # Without an encoder in the file, nothing has checked what its metadata says about one.
        encoder = trained.network if _holds_encoder(weights) else {}
    elif spec.encoder_weights == FROM_BASE:
        innermost = _owner(network)[0]["base"]
        encoder = innermost["network"]
        if LIGHT_ENCODER[0] not in encoder:
            raise ConfigError(f"model.encoder_weights=base: the base '{innermost['name']}' has no encoder")
    return {**network, **{key: encoder[key] for key in LIGHT_ENCODER if key in encoder}}, settings


def _owner(network: dict[str, Any], method: str = "") -> tuple[dict[str, Any], str]:
    """Find the base of a method, or the innermost base.

    Returns:
        Parameters of the network that holds the base, and the base's submodule path.
    """
    place = "base"
    while "base" in network["base"]["network"] and network["base"]["name"] != method:
        network, place = network["base"]["network"], f"{place}.base"
    return network, place


def _parameter_count(segmenter: Segmenter[Any]) -> int:
    return sum(parameter.numel() for parameter in segmenter.parameters())
