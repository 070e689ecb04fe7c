"""Segmenters and LightningModules from configurations, checkpoints and weight files."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from safetensors.torch import save_file
from torch import Tensor, nn

from src.core import CheckpointError, ConfigError, Segmenter, atomic_path
from src.core.weights import find_tensors, load_encoder, load_tensors, read_archive
from src.engine import Settings
from src.engine.coding import Coding
from src.launch.entry import CONFIGS, plain
from src.launch.instantiate import instantiate
from src.methods import registry
from src.training.module import VOSModule
from src.video.encode import Encoding

ENCODERS = ("encoder", "mask_encoder")
"""Submodules that `model.<name>_weights` initialises from a classification checkpoint."""


@dataclass(frozen=True, slots=True)
class Model:
    """A segmenter in evaluation mode, and how it should be run; `coding` where it looks at codec side data."""

    name: str
    segmenter: Segmenter[Any]
    settings: Settings
    coding: Coding | None = None


def load_model(config: DictConfig) -> Model:
    """The segmenter that `checkpoint=…` or `model=… [weights=…]` asks for, with `engine` overrides.

    Where neither is given, `config.default` names a checkpoint of this checkout, if the program has one.

    Raises:
        ConfigError: if neither or both are given.
        CheckpointError: for a file that cannot be read or does not fit.
    """
    checkpoint, named = config.checkpoint, config.get("model") is not None
    if checkpoint is None and not named and config.get("default") is not None:
        checkpoint = CONFIGS.parent / config.default
    if (checkpoint is None) != named:
        raise ConfigError("give either checkpoint=FILE or model=NAME")
    if checkpoint is not None:
        if config.weights is not None or config.get("base_weights") is not None:
            raise ConfigError("weights=FILE and base_weights=FILE go with model=NAME; a checkpoint has its own")
        model = from_checkpoint(Path(checkpoint))
    else:
        network, settings = _parameters(config)
        segmenter = registry.build(config.model.name, network)
        _load_all(segmenter, config)
        encoding = plain(config.model.get("encoding"))
        coding = None if encoding is None else Coding(Path(config.paths.cache) / "coded", Encoding(**encoding))
        model = Model(config.model.name, _evaluating(segmenter), settings, coding)
    asked = {key: config.engine[key] for key in ("size", "precision") if config.engine[key] is not None}
    return replace(model, settings=replace(model.settings, **asked))


def from_checkpoint(path: Path) -> Model:
    """Rebuild what `src.train` wrote.

    Raises:
        CheckpointError: if the file is not one of ours; published weights go with `model=NAME weights=FILE`.
    """
    content = read_archive(path)
    about = content.get("vos")
    if not isinstance(about, dict) or "method" not in about:
        raise CheckpointError(f"{path}: not a checkpoint of src.train; for other weights say model=NAME weights={path}")
    segmenter = registry.build(about["method"], about["network"])
    _load(segmenter, _segmenter_tensors(content), path)
    return Model(about["method"], _evaluating(segmenter), Settings(**about["engine"]))


def write_half(source: Path, target: Path) -> None:
    """Write what evaluation needs of one of our checkpoints, the network in half precision, as a safetensors file.

    Raises:
        CheckpointError: if `source` is not one of ours.
        WriteError: if `target` cannot be written.
    """
    content = read_archive(source)
    if "vos" not in content:
        raise CheckpointError(f"{source}: not a checkpoint of src.train")
    tensors = {f"segmenter.{key}": value.half().contiguous() for key, value in _segmenter_tensors(content).items()}
    with atomic_path(target) as path:
        save_file(tensors, path, {"vos": json.dumps(content["vos"])})


def load_weights(segmenter: Segmenter[Any], method: str, path: Path) -> None:
    """Initialise from our checkpoint, a file of our tensors, or a published checkpoint of the method.

    Raises:
        CheckpointError: for a file of another method, naming it where it is one of ours.
    """
    content = read_archive(path)
    about = content.get("vos")
    if isinstance(about, dict):
        if about.get("method") != method:
            raise CheckpointError(f"{path}: a checkpoint of '{about.get('method')}', not of '{method}'")
        tensors = _segmenter_tensors(content)
    else:
        tensors = _converted(find_tensors(content), method, path)
        if isinstance(segmenter, nn.Module) and hasattr(segmenter, "base"):
            # Published weights of a wrapper come without its base.
            tensors = {**segmenter.state_dict(), **tensors}
    _load(segmenter, tensors, path)


def training_module(config: DictConfig) -> VOSModule:
    """The LightningModule of `model`, with `weights` or the encoder's weights loaded.

    Raises:
        ConfigError: for a method that does not learn.
    """
    name: str = config.model.name
    module = registry.method(name).module()
    if module is None:
        raise ConfigError(f"model '{name}' has nothing to train")
    network, _ = _parameters(config)
    segmenter = registry.build(name, network)
    encoders = {part: file for part in ENCODERS if (file := config.model.get(f"{part}_weights")) is not None}
    for part, file in encoders.items():
        assert isinstance(segmenter, nn.Module)
        load_encoder(segmenter.get_submodule(part), Path(file))
    _load_all(segmenter, config)
    built: VOSModule = module(
        segmenter=segmenter,
        recipe=instantiate(config.model.training),
        settings=Settings(**plain(config.engine)),
        identity={"method": name, "network": network},
        pretrained=bool(encoders) or config.weights is not None,
    )
    return built


def _parameters(config: DictConfig) -> tuple[dict[str, Any], Settings]:
    """What the network is built from, and how it is run: a base whose weights are a checkpoint of ours is as it says.

    Raises:
        ConfigError: weights for the base of a model that wraps none.
    """
    network: dict[str, Any] = plain(config.model.network)
    if config.get("base_weights") is None:
        return network, Settings()
    if "base" not in network:
        raise ConfigError(f"base_weights={config.base_weights}: model '{config.model.name}' wraps no base")
    about = read_archive(Path(config.base_weights)).get("vos")
    if not isinstance(about, dict):
        return network, Settings()
    return {**network, "base": {"name": about["method"], "network": about["network"]}}, Settings(**about["engine"])


def _load_all(segmenter: Segmenter[Any], config: DictConfig) -> None:
    """Load `base_weights`, then `weights`."""
    if config.get("base_weights") is not None:
        path = Path(config.base_weights)
        about = read_archive(path).get("vos")
        base = about["method"] if isinstance(about, dict) else config.model.base.name
        assert isinstance(segmenter, nn.Module)
        load_weights(segmenter.get_submodule("base"), base, path)  # type: ignore[arg-type]
    if config.weights is not None:
        load_weights(segmenter, config.model.name, Path(config.weights))


def _segmenter_tensors(content: dict[str, Any]) -> dict[str, Tensor]:
    tensors = find_tensors(content)
    return {key.removeprefix("segmenter."): value for key, value in tensors.items() if key.startswith("segmenter.")}


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


def _load(segmenter: Segmenter[Any], tensors: dict[str, Tensor], path: Path) -> None:
    assert isinstance(segmenter, nn.Module)
    load_tensors(segmenter, tensors, path)


def _evaluating(segmenter: Segmenter[Any]) -> Segmenter[Any]:
    assert isinstance(segmenter, nn.Module)
    segmenter.eval().requires_grad_(False)
    return segmenter
