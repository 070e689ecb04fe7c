"""Instantiates the objects that a configuration names, from an explicit list of packages."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from voslab.cli.entry import plain
from voslab.core import ConfigError, VOSError
from voslab.core.parameters import check_parameters, nearest

OURS = (
    "voslab.data.",
    "voslab.engine.",
    "voslab.methods.covos.cache.",
    "voslab.metrics.",
    "voslab.nn.",
    "voslab.training.",
)
"""Packages of voslab whose classes and functions a configuration may name."""
FOREIGN = (
    "torch.optim.",
    "lightning.Trainer",
    "lightning.pytorch.",
    "torchmetrics.",
    "albumentations.",
)
"""Other packages whose classes it may name."""
_KEYS = ("_target_", "_partial_")


def instantiate(config: DictConfig | dict[str, Any], **extra: Any) -> Any:
    """`hydra.utils.instantiate` for allowed targets only; nested values arrive as plain lists and dicts.

    Raises:
        ConfigError: a target that is not on the list, does not exist or cannot be built; an unknown parameter, or one
            of another type.
        VOSError: raised by the target itself for bad input.
    """
    content = plain(config)
    _check(content, str(config._get_full_key(None)) if isinstance(config, DictConfig) else "")
    try:
        return hydra.utils.instantiate(content, _convert_="all", **extra)
    except InstantiationException as error:
        if isinstance(error.__cause__, VOSError):
            raise error.__cause__ from error
        raise ConfigError(f"cannot build {content.get('_target_')}: {_reason(error)}") from error


def _check(content: Any, where: str) -> None:
    """Check all targets and their parameters before anything is instantiated."""
    if isinstance(content, list):
        for place, value in enumerate(content):
            _check(value, f"{where}[{place}]")
    if not isinstance(content, dict):
        return
    prefix = f"{where}." if where else ""
    if "_target_" in content:
        parameters = {key: value for key, value in content.items() if key not in _KEYS}
        check_parameters(_find(content["_target_"], where), parameters, prefix, _is_built)
    for key, value in content.items():
        _check(value, f"{prefix}{key}")


def _find(target: Any, where: str) -> Callable[..., Any]:
    """The class or function of a target. What an allowed module merely imports is not it: that could be anything."""
    refused = ConfigError(f"{where + ': ' if where else ''}_target_ '{target}' is not allowed in a configuration")
    if not isinstance(target, str) or not target.startswith(OURS + FOREIGN):
        raise refused
    try:
        found = hydra.utils.get_object(target)
    except Exception as error:  # importing what does not exist fails in as many ways as there are packages
        raise ConfigError(f"{where}: there is no {target}{_other(target)}") from error
    home = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    ours = home.startswith(OURS) and (inspect.isclass(found) or inspect.isfunction(found))
    if not ours and not (home.startswith(FOREIGN) and inspect.isclass(found)):
        raise refused
    made: Callable[..., Any] = found
    return made


def _other(target: str) -> str:
    """The name in the same module that was probably meant."""
    module, _, name = target.rpartition(".")
    try:
        found = nearest(name, dir(hydra.utils.get_object(module)))
    except Exception:  # as in `_find`
        return ""
    return found


def _is_built(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


def _reason(error: Exception) -> str:
    """What the target itself said, without Hydra's frame around it."""
    return " ".join(str(error.__cause__ or error).split())
