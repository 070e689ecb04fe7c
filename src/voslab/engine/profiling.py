"""Measures time and memory of a frame over resolution x objects x frames in the memory.

A timed frame is one `step` on a padded image that is already on the device: memorising the previous frame, if the
method does so, encoding, reading, decoding and aggregation. Reading, resizing and writing images are excluded. The
timed frames are consecutive and start at the third frame of the video. Their mean equals that of a long video if their
number is a multiple of the memory's period (5 where every fifth frame is memorised).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

import torch

from voslab.core import ConfigError, Frame, Masks, Segmenter, State, generator
from voslab.core.parameters import Count, fits
from voslab.engine.device import device_of, now
from voslab.engine.padding import pad
from voslab.engine.settings import Settings

Run = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Grid:
    """Grid of measurements: every combination of its values.

    Attributes:
        sizes: height and width of the images before padding.
        objects: numbers of objects; 0 is legal.
        memory: numbers of frames in the memory. Methods without a memory are measured once per size and objects.
        repeats: timed frames per point.

    Raises:
        ConfigError: if a value is out of range.
    """

    sizes: Sequence[tuple[int, int]]
    objects: Sequence[int]
    memory: Sequence[int]
    repeats: int = 2

    def __post_init__(self) -> None:
        for name in ("sizes", "objects", "memory"):
            if not isinstance(getattr(self, name), (list, tuple)):
                raise ConfigError(f"{name}={getattr(self, name)}: must be a list")
        _at_least(1, "repeats", self.repeats)
        _at_least(0, "objects", *self.objects)
        _at_least(1, "memory", *self.memory)
        for size in self.sizes:
            if not isinstance(size, (list, tuple)) or len(size) != 2:
                raise ConfigError(f"sizes={list(self.sizes)}: each is a height and a width, [[480, 854]]")
            for side in size:
                if not fits(side, Count):
                    raise ConfigError(f"sizes: {side!r} in {list(size)} is not a number of pixels, at least 1")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One point of the grid.

    Attributes:
        size: H, W before padding.
        objects: number of objects.
        frames: number of frames in the memory; None for methods without a memory.
        seconds: mean time of a step; None, like the following fields, if the machine ran out of memory.
        stages: mean seconds per step in each stage, without the stages that it calls. `rest` is the remainder.
        memory_bytes: size of `state.memory` with `frames` frames; None for methods without a memory.
        state_bytes: size of everything else in the state.
        peak_bytes: maximum memory allocated on a CUDA device, network included; None on the CPU, where memory of
            earlier points may still be allocated.
        error: reason for missing numbers.
    """

    size: tuple[int, int]
    objects: int
    frames: int | None
    seconds: float | None = None
    stages: dict[str, float] = field(default_factory=dict)
    memory_bytes: int | None = None
    state_bytes: int | None = None
    peak_bytes: int | None = None
    error: str | None = None

    @property
    def rest(self) -> float | None:
        """Seconds of a step outside its stages; None if no stage was timed."""
        return self.seconds - sum(self.stages.values()) if self.seconds is not None and self.stages else None


def sweep(
    segmenter: Segmenter[Any], grid: Grid, settings: Settings | None = None, stages: Sequence[str] | None = None
) -> Iterator[Measurement]:
    """Measure every point of a grid.

    A point that does not fit into memory gets an `error`, and the sweep continues. If the system overcommits memory
    (Linux without a limit), it kills the process instead.

    Args:
        segmenter: segmenter in evaluation mode, on the device to measure.
        grid: the points.
        settings: precision of the measurement; the size is ignored.
        stages: names of methods that `step` calls; None for `segmenter.stages`.

    Yields:
        one measurement per point.
    """
    settings = settings or Settings()
    stages = segmenter.stages if stages is None else stages
    memory = grid.memory if _has_memory(segmenter, settings) else [None]
    for size, objects, frames in product(grid.sizes, grid.objects, memory):
        point = Measurement((size[0], size[1]), objects, frames)
        try:
            point = measure(segmenter, point, grid.repeats, settings, stages)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            point = replace(point, error="out of memory")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        yield point


@torch.no_grad()
def measure(
    segmenter: Segmenter[Any], point: Measurement, repeats: int, settings: Settings, stages: Sequence[str] = ()
) -> Measurement:
    """Measure one point: one step without timing, then `repeats` timed ones.

    Args:
        segmenter: segmenter in evaluation mode.
        point: size, objects and frames to measure.
        repeats: number of timed steps.
        settings: precision of the measurement.
        stages: names of methods that `step` calls.

    Returns:
        the point with its numbers.
    """
    device = device_of(segmenter)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with torch.autocast(device.type, settings.dtype, enabled=settings.precision != "fp32"):
        frame, state = start_random_video(segmenter, point.size, point.objects)
        memory = memory_of(state)
        if memory is not None and point.frames is not None:
            memory = memory.repeat(point.frames)
            state = replace(state, memory=memory)
        memory_bytes = None if memory is None else memory.nbytes()
        state_bytes = state.nbytes() - (memory_bytes or 0)
        # Otherwise it would stay in memory beside the larger one that replaces it.
        del memory
        _, state = segmenter.step(_at(frame, 2), state)
        with timed(segmenter, stages) as seconds:
            started = now(device)
            for index in range(3, 3 + repeats):
                _, state = segmenter.step(_at(frame, index), state)
            total = now(device) - started
    return replace(
        point,
        seconds=total / repeats,
        stages={name: seconds[name] / repeats for name in stages},
        memory_bytes=memory_bytes,
        state_bytes=state_bytes,
        peak_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    )


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


def memory_of(state: Any) -> Any:
    """Return the memory of a state if it has `repeat(frames)`, as in `voslab.nn.memory`; else None."""
    memory = getattr(state, "memory", None)
    return memory if isinstance(memory, State) and hasattr(memory, "repeat") else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory could not be allocated; torch raises a plain `RuntimeError` on the CPU."""
    phrases = ("not enough memory", "can't allocate memory", "bad_alloc", "ALLOC_FAILED", "out of memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(phrase in str(error) for phrase in phrases)


def start_random_video(segmenter: Segmenter[Any], size: tuple[int, int], objects: int) -> tuple[Frame, Any]:
    """Return a padded random image and the state after one step on it. The objects are vertical stripes."""
    height, width = size
    device = device_of(segmenter)
    noise = generator("benchmark", height, width).random((1, 3, height, width), "float32")
    frame = Frame(0, torch.from_numpy(noise).to(device))
    stripes = torch.arange(width, device=device) * (objects + 1) // width
    slot_mask = torch.ones(1, objects, dtype=torch.bool, device=device)
    masks = Masks.from_labels(stripes.expand(1, height, width), slot_mask)
    frame, padded, _ = pad(frame, masks, segmenter.stride, segmenter.padding, segmenter.mean)
    assert padded is not None
    _, state = segmenter.step(_at(frame, 1), segmenter.begin(frame, padded))
    return frame, state


@torch.no_grad()
def _has_memory(segmenter: Segmenter[Any], settings: Settings) -> bool:
    """Whether the method has a memory, tested on a small image because the grid may not fit into memory."""
    side = 4 * segmenter.stride
    with torch.autocast(device_of(segmenter).type, settings.dtype, enabled=settings.precision != "fp32"):
        return memory_of(start_random_video(segmenter, (side, side), 1)[1]) is not None


def _at(frame: Frame, index: int) -> Frame:
    return replace(frame, index=index)


def _at_least(least: int, name: str, *values: Any) -> None:
    for value in values:
        if not isinstance(value, int) or value < least:
            raise ConfigError(f"{name}: {value!r} is not a whole number from {least} up")
