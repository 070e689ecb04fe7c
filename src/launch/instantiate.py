"""Builds objects that a configuration names, from an explicit list of places. A config is still trusted input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig

from src.core import ConfigError, VOSError
from src.launch.entry import plain

ALLOWED = (
    "src.",
    "torch.optim.",
    "lightning.Trainer",
    "lightning.pytorch.callbacks.",
    "lightning.pytorch.loggers.",
    "lightning.pytorch.plugins.",
    "lightning.pytorch.strategies.",
    "torchmetrics.",
    "albumentations.",
)


def instantiate(config: DictConfig | dict[str, Any], **extra: Any) -> Any:
    """`hydra.utils.instantiate` for allowed targets only; nested values arrive as plain lists and dicts.

    Raises:
        ConfigError: for a target that is not on the list, or that cannot be built.
        VOSError: what the target itself says of bad input.
    """
    content = plain(config)
    for target in _targets(content):
        if not target.startswith(ALLOWED):
            raise ConfigError(f"_target_ '{target}' is not allowed in a configuration")
    try:
        return hydra.utils.instantiate(content, _convert_="all", **extra)
    except InstantiationException as error:
        if isinstance(error.__cause__, VOSError):
            raise error.__cause__ from error
        raise ConfigError(f"cannot build {content.get('_target_')}: {error}") from error


def _targets(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        if "_target_" in content:
            yield str(content["_target_"])
        for value in content.values():
            yield from _targets(value)
    elif isinstance(content, list):
        for value in content:
            yield from _targets(value)
