"""Finds and builds the methods: every package in this folder, described by the `METHOD` in its `__init__`."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

from torch import Size

from voslab import methods
from voslab.core import ConfigError, Segmenter
from voslab.core.method import Method
from voslab.core.parameters import check_parameters
from voslab.core.shapes import without_memory


def names() -> tuple[str, ...]:
    """Return the registry names of all methods, sorted.

    Example:
        >>> from voslab.methods import registry
        >>> "stcn" in registry.names()
        True
    """
    return tuple(sorted(found.name for found in pkgutil.iter_modules(methods.__path__) if found.ispkg))


def method(name: str) -> Method:
    """Return the description of a method.

    Args:
        name: Registry name: the name of its package.

    Raises:
        ConfigError: If there is no such method.

    Example:
        >>> from voslab.methods import registry
        >>> registry.method("copy_first").network_path
        'voslab.methods.copy_first.network:CopyFirst'
    """
    if name not in names():
        raise ConfigError(f"unknown method '{name}', choose from {', '.join(names())}")
    found: Method = import_module(f"voslab.methods.{name}").METHOD
    return found


def build(name: str, parameters: dict[str, Any]) -> Segmenter[Any]:
    """Build the network of a method from plain parameters, with random weights.

    Args:
        name: Registry name of the method.
        parameters: Arguments of the network's class. The `base` of a wrapper is a dict of `name` and `network`;
            `base_network` replaces single parameters of the latter.

    Returns:
        The network, in training mode.

    Raises:
        ConfigError: If the method is unknown, or a parameter is unknown or has a wrong type or value.

    Example:
        >>> from voslab.methods import registry
        >>> type(registry.build("copy_first", {})).__name__
        'CopyFirst'
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
    # torch raises RuntimeError for negative sizes and for sizes that exceed the memory.
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).replace(f"{network.__name__}.__init__()", "its network").split())
        raise ConfigError(f"model '{name}': {reason}") from error
    return built


def shapes(name: str, parameters: dict[str, Any]) -> dict[str, Size]:
    """Return the shapes of a network's state dict without building it.

    Args:
        name: Registry name of the method.
        parameters: See `build`.

    Returns:
        Shapes by key.

    Raises:
        ConfigError: See `build`.

    Example:
        >>> from voslab.methods import registry
        >>> registry.shapes("stcn", {"width": 20000})["encoder.conv1.weight"]
        torch.Size([20000, 3, 7, 7])
    """
    with without_memory():
        network = build(name, parameters)
    return {key: value.shape for key, value in network.state_dict().items()}


def _with_changed_base(parameters: dict[str, Any]) -> dict[str, Any]:
    """Merge `base_network` into the parameters of the base."""
    base, changes = parameters.get("base"), parameters.get("base_network", ())
    if not isinstance(changes, dict | None) or not isinstance(base, dict) or not isinstance(base.get("network"), dict):
        return parameters
    own = {key: value for key, value in parameters.items() if key != "base_network"}
    return {**own, "base": {**base, "network": {**base["network"], **(changes or {})}}}
