"""Builds LightningModules and data modules by the names of their configuration files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from voslab.cli.arguments import explain
from voslab.cli.instantiate import instantiate
from voslab.cli.training_module import training_module
from voslab.configs import compose
from voslab.core import ConfigError
from voslab.data.datamodule import VOSDataModule
from voslab.training.module import VOSModule


def lightning_module(
    model: str,
    *,
    weights: str | Path | None = None,
    base_weights: str | Path | None = None,
    size: int | None = None,
    training: Mapping[str, Any] | None = None,
    **network: Any,
) -> VOSModule:
    """Build the LightningModule of a method, with the published parameters unless others are given.

    Args:
        model: Name of a file in `conf/model`, such as `gam`.
        weights: Initial weights: a checkpoint or published weights of the method.
        base_weights: The same for the base of a wrapper such as `covos`.
        size: Working size of validation: the shorter side of a frame in pixels.
        training: Training settings that replace those of the file, such as `{"optimizer": {"lr": 1e-4}}`.
        network: Network parameters that replace those of the file.

    Returns:
        The module; its hyperparameters are those that a checkpoint stores.

    Raises:
        ConfigError: If a name or a parameter is unknown, or the method has nothing to train.
        CheckpointError: If a file cannot be read or does not fit.

    Example:
        >>> import voslab
        >>> module = voslab.lightning_module("gam", backbone="resnet18", width=8)
        >>> type(module).__name__, module.hparams["network"]["backbone"]
        ('GAMModule', 'resnet18')
    """
    config = compose("train", [f"model={model}"])
    changes: dict[str, Any] = {"model": {"network": network, "training": dict(training or {})}}
    changes |= {"weights": _text(weights), "base_weights": _text(base_weights)}
    if size is not None:
        changes["engine"] = {"size": size}
    if config.model.get("training") is None:
        del changes["model"]["training"]
    module = training_module(_merged(config, changes))
    # The command line logs its whole configuration instead.
    module.save_hyperparameters(dict(module.hparams))
    return module


def datamodule(name: str, *, root: str | Path | None = None, seed: int = 0, **options: Any) -> VOSDataModule:
    """Build the data module of a data set.

    Args:
        name: Name of a file in `conf/data`, such as `davis2016`.
        root: Folder that holds the data sets in their official layouts (DAVIS/, COCO/, YouTube-VOS/, …). For `folder`
            it is the folder of your data; for `generated`, that of the generated videos.
        seed: Seed of the order and of all random draws.
        options: Values that replace those of the file, such as `batch_size=2` or `clip={"frames": 3}`.

    Returns:
        The data module. Nothing is read before its `setup`.

    Raises:
        ConfigError: If a name or an option is unknown.

    Example:
        >>> import voslab
        >>> voslab.datamodule("davis2016", root="/data", batch_size=2).batch_size
        2
    """
    places = {"folder": "paths.folder", "generated": "data.train.root"}
    place = [] if root is None else [f"{places.get(name, 'paths.data')}='{Path(root).absolute()}'"]
    config = _merged(compose("train", [f"data={name}", f"seed={seed}", *place]), {"data": options})
    module: VOSDataModule = instantiate(config.data)
    return module


def _merged(config: DictConfig, changes: dict[str, Any]) -> DictConfig:
    """Merge plain values into a configuration. Values that the file does not have are checked by what is built."""
    OmegaConf.set_struct(config, False)
    try:
        merged = OmegaConf.merge(config, changes)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    assert isinstance(merged, DictConfig)
    return merged


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)
