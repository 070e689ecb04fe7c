"""Finds the methods: every folder here whose `__init__` names its parts in a `METHOD`."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

from src import methods
from src.core import ConfigError, Segmenter
from src.core.method import Method


def names() -> tuple[str, ...]:
    """Registry names of all methods, sorted."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(methods.__path__) if found.ispkg))


def method(name: str) -> Method:
    """Look a method up.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in names():
        raise ConfigError(f"unknown method '{name}', choose from {', '.join(names())}")
    found: Method = import_module(f"src.methods.{name}").METHOD
    return found


def build(name: str, parameters: dict[str, Any]) -> Segmenter[Any]:
    """Construct a method's network from plain parameters; a wrapper's `base` is a method's `name` and `network` again.

    Raises:
        ConfigError: for an unknown method, or parameters its network does not take.
    """
    network = method(name).network()
    if isinstance(base := parameters.get("base"), dict):
        parameters = {**parameters, "base": build(base["name"], base["network"])}
    try:
        built: Segmenter[Any] = network(**parameters)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"model '{name}': {str(error).replace(f'{network.__name__}.__init__()', 'its network')}"
        ) from error
    return built
