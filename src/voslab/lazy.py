"""Imports the public names of a package when they are first used, so that importing the package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_exports(package: str, modules: Mapping[str, Sequence[str]]) -> tuple[Callable[[str], Any], list[str]]:
    """Make the `__getattr__` (PEP 562) and the `__all__` of a package.

    Args:
        package: `__name__` of the package.
        modules: public names by the module, relative to the package, that defines them. A name must differ from every
            module of the package, as importing a module binds its name.

    Returns:
        The function that resolves a name, and the sorted public names.

    Example:
        >>> from voslab.lazy import lazy_exports
        >>> resolve, names = lazy_exports("voslab.core", {"errors": ["DataError"]})
        >>> resolve("DataError").__name__, names
        ('DataError', ['DataError'])
    """
    owners = {name: module for module, names in modules.items() for name in names}

    def resolve(name: str) -> Any:
        if name not in owners:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{owners[name]}"), name)

    return resolve, sorted(owners)
