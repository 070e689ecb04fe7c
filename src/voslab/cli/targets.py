"""Resolves the targets of a configuration against explicit lists of packages."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import hydra.utils

from voslab.core import ConfigError
from voslab.core.parameters import nearest


def find_target(target: Any, where: str, ours: tuple[str, ...], foreign: tuple[str, ...]) -> Callable[..., Any]:
    """Import the class or function that a `_target_` names.

    Names that an allowed module imports from elsewhere are refused, because they could be anything.

    Args:
        target: Value of `_target_`.
        where: Key to name in errors; may be empty.
        ours: Prefixes of allowed classes and functions.
        foreign: Prefixes of allowed classes.

    Raises:
        ConfigError: If the target is not on a list or does not exist.
    """
    if not isinstance(target, str) or not target.startswith(ours + foreign):
        raise refused(where, "_target_", target)
    try:
        found = hydra.utils.get_object(target)
    except Exception as error:  # importing what does not exist fails in as many ways as there are packages
        raise ConfigError(f"{where}: there is no {target}{_other(target)}") from error
    home = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    is_ours = home.startswith(ours) and (inspect.isclass(found) or inspect.isfunction(found))
    if not is_ours and not (home.startswith(foreign) and inspect.isclass(found)):
        raise refused(where, "_target_", target)
    made: Callable[..., Any] = found
    return made


def refused(where: str, key: str, value: Any) -> ConfigError:
    """Return the error for a value that is not on a list.

    Args:
        where: Key of the block that holds it; may be empty.
        key: Its key in the block.
        value: The value.
    """
    return ConfigError(f"{where + ': ' if where else ''}{key} '{value}' is not allowed in a configuration")


def _other(target: str) -> str:
    """The name in the same module that was probably meant."""
    module, _, name = target.rpartition(".")
    try:
        found = nearest(name, dir(hydra.utils.get_object(module)))
    except Exception:  # as in `find_target`
        return ""
    return found
