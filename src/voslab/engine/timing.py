"""Measures the time in methods of a segmenter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from voslab.core import Segmenter
from voslab.engine.device import device_of, now

Run = Callable[..., Any]


@contextmanager
def timed(segmenter: Segmenter[Any], stages: Sequence[str]) -> Iterator[dict[str, float]]:
    """Measure the time in methods of a segmenter until the block ends, excluding nested calls of these methods.

    The device is synchronised before and after each call, which slows down steps of many short kernels on CUDA.

    Args:
        segmenter: segmenter whose methods are wrapped.
        stages: names of the methods.

    Yields:
        seconds by name, which grow with every call.
    """
    device = device_of(segmenter)
    seconds = dict.fromkeys(stages, 0.0)
    nested: list[float] = []

    def wrapped(name: str, method: Run) -> Run:
        def run(*args: Any, **kwargs: Any) -> Any:
            nested.append(0.0)
            started = now(device)
            try:
                return method(*args, **kwargs)
            finally:
                elapsed = now(device) - started
                seconds[name] += elapsed - nested.pop()
                if nested:
                    nested[-1] += elapsed

        return run

    with wrap_methods(segmenter, {name: partial(wrapped, name) for name in seconds}):
        yield seconds


@contextmanager
def wrap_methods(instance: Any, wrappers: Mapping[str, Callable[[Run], Run]]) -> Iterator[None]:
    """Replace methods of one object by wrapped ones until the block ends.

    Args:
        instance: the object.
        wrappers: function from a method to its wrapped version, per method name.
    """
    before = {name: vars(instance)[name] for name in wrappers if name in vars(instance)}
    methods = {name: getattr(instance, name) for name in wrappers}
    try:
        for name, method in methods.items():
            setattr(instance, name, wrappers[name](method))
        yield
    finally:
        for name in methods:
            vars(instance).pop(name, None)
        vars(instance).update(before)
