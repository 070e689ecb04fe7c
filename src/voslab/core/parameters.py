"""Checks keyword arguments against a signature before the call, so that a misspelled name gets a suggestion."""

from __future__ import annotations

import difflib
import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from voslab.core.errors import ConfigError

_NUMBERS = {float: (int, float), int: (int,), complex: (int, float, complex)}
_PLAIN = (bool, int, float, str, list, dict, type(None))
_LONGEST = 100
"""Number of characters of a value in a message."""
_LARGEST_INT, _LARGEST_FLOAT = 2**63, 3e38
"""Larger numbers overflow somewhere in a library."""


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a parameter, declared as `Annotated[int, Range(1, 16)]`; both ends are allowed.

    Args:
        low: Smallest value.
        high: Largest value.
    """

    low: float
    high: float = math.inf

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"of at least {self.low}" if self.high == math.inf else f"from {self.low} to {self.high}"


Count = Annotated[int, Range(1, 2**31 - 1)]
"""A positive number of things."""
Side = Annotated[int, Range(1, 16384)]
"""Height or width of an image in pixels."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Suggest the closest choice for a misspelled name.

    Args:
        name: the unknown name.
        choices: known names.

    Returns:
        the suggestion as `; did you mean 'this'?`; empty if no choice is close.

    >>> nearest("backbon", ["backbone", "width"])
    "; did you mean 'backbone'?"
    >>> nearest("colour", ["backbone", "width"])
    ''
    """
    matches = difflib.get_close_matches(name, list(choices), 1, 0.6)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def check_parameters(
    function: Callable[..., Any],
    values: Mapping[str, Any],
    where: str,
    known: Callable[[Any], bool] = lambda _: False,
    narrower: Mapping[str, Any] | None = None,
) -> None:
    """Check names and types of keyword arguments. Missing arguments are not an error.

    Args:
        function: function or class that takes the arguments.
        values: plain values by name: numbers, strings, lists, dicts.
        where: prefix of the argument's name in errors.
        known: predicate of values that an object will be built from; they fit any type.
        narrower: types that replace declared ones, by name.

    Raises:
        ConfigError: if the function has no such parameter, or a value has another type than declared.
    """
    parameters = inspect.signature(function).parameters
    has_kwargs = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    hints = {**_hints(function), **(narrower or {})}
    names = [name for name, one in parameters.items() if one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}]
    for name, value in values.items():
        if name not in names and not has_kwargs:
            owner = function.__name__
            raise ConfigError(
                f"{where}{name}: {owner} takes no '{name}'{nearest(str(name), names)} (it takes {', '.join(names)})"
            )
        is_default = name in parameters and value is None and parameters[name].default is None
        if name in hints and not is_default and not fits(value, hints[name], known):
            raise ConfigError(f"{where}{name}={_shown(value)}: must be {_describe(hints[name])}")


def fits(value: Any, hint: Any, known: Callable[[Any], bool] = lambda _: False) -> bool:
    """Whether a plain value fits a declared type. Integers fit floats, lists fit tuples, strings fit paths.

    Every value but a string fits a class of another package. No plain value fits a class of this package.

    Args:
        value: number, string, list or dict.
        hint: type annotation.
        known: predicate of values that fit any type.

    Returns:
        True if the value fits, or the type is unknown.
    """
    if hint is Any or known(value) or isinstance(hint, TypeVar | str):
        return True
    if get_origin(hint) is not None:
        return _fits_generic(value, hint, known)
    if hint in {None, type(None)}:
        return value is None
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint]) and not isinstance(value, bool) and _fits_machine(value)
    if hint in {bool, str, bytes, dict, list}:
        return isinstance(value, hint)
    if isinstance(hint, type) and issubclass(hint, PurePath):
        return isinstance(value, str)
    if not isinstance(hint, type) or issubclass(hint, Enum):
        return True
    return not isinstance(value, _PLAIN if hint.__module__.startswith("voslab.") else str)


def _fits_generic(value: Any, hint: Any, known: Callable[[Any], bool]) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return any(fits(value, part, known) for part in parts)
    if origin is Annotated:
        ranges = [part for part in parts[1:] if isinstance(part, Range)]
        return fits(value, parts[0], known) and all(value in one for one in ranges)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin is tuple and isinstance(value, list | tuple):
        expected = parts[:1] * len(value) if parts[-1:] == (...,) else parts
        return len(expected) == len(value) and all(map(fits, value, expected, [known] * len(value)))
    if isinstance(origin, type) and issubclass(dict, origin):
        return isinstance(value, dict) and all(fits(one, parts[1], known) for one in value.values())
    if isinstance(origin, type) and issubclass(list, origin):
        return isinstance(value, list | tuple) and all(fits(one, parts[0], known) for one in value)
    # Callables, classes and protocols are not plain values.
    return not isinstance(value, _PLAIN)


def _shown(value: Any) -> str:
    """A value in one short line."""
    try:
        text = " ".join(str(value).split())
    except (ValueError, RecursionError):  # integers of more than 4300 digits, and deeply nested lists
        return "…"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _fits_machine(value: complex) -> bool:
    if isinstance(value, int):
        return -_LARGEST_INT <= value < _LARGEST_INT
    return abs(value) <= _LARGEST_FLOAT


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the declared types of a function; empty if they cannot be resolved."""
    try:
        if isinstance(function, type) and not is_dataclass(function):
            return get_type_hints(inspect.getattr_static(function, "__init__"), include_extras=True)
        return get_type_hints(function, include_extras=True)
    except Exception:  # annotations of other packages may raise anything
        return {}


def _is_foreign(hint: Any) -> bool:
    """Return whether a type is a class of another package."""
    return isinstance(hint, type) and hint.__module__.partition(".")[0] not in {"builtins", "pathlib", "voslab"}


def _describe(hint: Any) -> str:
    """Describe a type in a message."""
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is Annotated:
        kind, *others = get_args(hint)
        return " ".join([_describe(kind), *(str(one) for one in others if isinstance(one, Range))])
    if get_origin(hint) in {Union, types.UnionType}:
        # A configuration cannot contain objects of other packages, such as tensors.
        writable = [part for part in get_args(hint) if not _is_foreign(part)]
        return " or ".join(dict.fromkeys(_describe(part) for part in writable or get_args(hint)))
    if hint is type(None):
        return "null"
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        ranges = "".join(dict.fromkeys(f", each {_describe(part)}" for part in parts if get_origin(part) is Annotated))
        return f"a list of {'any number' if parts[-1:] == (...,) else len(parts)}{ranges}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list"}
    return names.get(hint) or str(getattr(get_origin(hint) or hint, "__name__", hint))
