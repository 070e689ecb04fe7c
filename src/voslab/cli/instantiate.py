"""Instantiates the objects that a configuration names, from an explicit list of packages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from voslab.cli.entry import plain
from voslab.cli.targets import find_target
from voslab.core import ConfigError, VOSError
from voslab.core.parameters import Count, Range, check_parameters

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
_NARROWER: dict[str, dict[str, Any]] = {
    "lightning.pytorch.trainer.trainer.Trainer": {
        "accumulate_grad_batches": Count,
        "check_val_every_n_epoch": Count | None,
        "gradient_clip_val": Annotated[float, Range(0)] | None,
        "log_every_n_steps": Annotated[int, Range(0)],
        "num_sanity_val_steps": Annotated[int, Range(-1)],
        "val_check_interval": Count | Annotated[float, Range(1e-6, 1)] | str | dict[str, Any] | None,
    }
}
"""Types of arguments by name, by class, where the class accepts values on which it fails in the middle of a run."""
_KEYS = ("_target_", "_partial_")


def instantiate(config: DictConfig | Mapping[str, Any], where: str = "", /, **extra: Any) -> Any:
    """`hydra.utils.instantiate` for allowed targets only; nested values arrive as plain lists and dicts.

    Args:
        config: Values by name, with a `_target_`.
        where: Dotted name of the values in errors; a `DictConfig` knows its own.
        extra: Further arguments of the target.

    Raises:
        ConfigError: a target that is not on the list, does not exist or cannot be built; an unknown parameter, or one
            of another type.
        VOSError: raised by the target itself for bad input.
    """
    content = plain(config)
    _check(content, str(config._get_full_key(None)) if isinstance(config, DictConfig) else where)
    try:
        return hydra.utils.instantiate(_opaque(content), _convert_="all", **extra)
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
        own = {*_KEYS, *(["_convert_"] if content.get("_convert_") == "all" else [])}  # what `instantiate` does anyway
        parameters = {key: value for key, value in content.items() if key not in own}
        target = find_target(content["_target_"], where, OURS, FOREIGN)
        check_parameters(
            target, parameters, prefix, _is_built, _NARROWER.get(f"{target.__module__}.{target.__qualname__}")
        )
    for key, value in content.items():
        _check(value, f"{prefix}{key}")


def _opaque(content: Any) -> Any:
    """Convert file names with `${` to paths, because Hydra would resolve strings again."""
    if isinstance(content, dict):
        return {key: _opaque(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_opaque(value) for value in content]
    return Path(content) if isinstance(content, str) and "${" in content else content


def _is_built(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


def _reason(error: Exception) -> str:
    """What the target itself said, without Hydra's frame around it."""
    return " ".join(str(error.__cause__ or error).split())
