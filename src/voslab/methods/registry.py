"""Finds the methods: every folder here whose `__init__` names its parts in a `METHOD`."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

from torch import nn

from voslab import methods
from voslab.core import ConfigError, Segmenter
from voslab.core.method import Method
from voslab.core.parameters import check_parameters


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
    found: Method = import_module(f"voslab.methods.{name}").METHOD
    return found


def build(name: str, parameters: dict[str, Any]) -> Segmenter[Any]:
    """Construct a method's network from plain parameters.

    A wrapper's `base` is a method's `name` and `network` again, the latter changed by what `base_network` says.

    Raises:
        ConfigError: for an unknown method, or parameters its network does not take or cannot be built of.
    """
    network = method(name).network()
    if not isinstance(parameters, dict):
        raise ConfigError(f"model '{name}': network={parameters}: must hold the network's parameters")
    parameters = _with_changed_base(parameters)
    check_parameters(network, parameters, f"model '{name}': network.", lambda value: isinstance(value, dict))
    if isinstance(base := parameters.get("base"), dict):
        if not base.keys() >= {"name", "network"}:
            raise ConfigError(f"model '{name}': network.base: must hold name and network")
        parameters = {**parameters, "base": build(base["name"], base["network"])}
    try:
        built: Segmenter[Any] = network(**parameters)
    # A negative size, or one beyond all memory, is a RuntimeError of torch.
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        said = " ".join(str(error).replace(f"{network.__name__}.__init__()", "its network").split())
        raise ConfigError(f"model '{name}': {said}") from error
    if isinstance(built, nn.Module) and (empty := [key for key, one in built.named_parameters() if not one.numel()]):
        raise ConfigError(f"model '{name}': {empty[0]} has no values; a size in network is 0")
    return built


def _with_changed_base(parameters: dict[str, Any]) -> dict[str, Any]:
    """Put `base_network` where it belongs: into the base's own parameters."""
    base, changes = parameters.get("base"), parameters.get("base_network", ())
    if not isinstance(changes, dict | None) or not isinstance(base, dict) or not isinstance(base.get("network"), dict):
        return parameters
    own = {key: value for key, value in parameters.items() if key != "base_network"}
    return {**own, "base": {**base, "network": {**base["network"], **(changes or {})}}}
