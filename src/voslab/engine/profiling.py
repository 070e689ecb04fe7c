"""Measures time and memory of a frame over resolution x objects x frames in the memory.

A timed frame is one `step` on a padded image that is already on the device: memorising the previous frame, if the
method does so, encoding, reading, decoding and aggregation. Reading, resizing and writing images are excluded. The
timed frames are consecutive and start at the third frame of the video. Their mean equals that of a long video if their
number is a multiple of the memory's period (5 where every fifth frame is memorised).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import torch

from voslab.core import ConfigError, Frame, Masks, Segmenter, State, generator
from voslab.core.parameters import Count, fits
from voslab.engine.device import device_of, is_out_of_memory, now
from voslab.engine.padding import pad
from voslab.engine.settings import Settings
from voslab.engine.timing import timed

FIRST = 2
"""Frames of a random video before the first that is timed."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Grid of measurements: every combination of its values.

    Attributes:
        sizes: height and width of the images before padding.
        objects: numbers of objects; 0 is legal.
        memory: numbers of frames in the memory. Methods without a memory are measured once per size and objects.
        repeats: timed frames per point.
        lengths: numbers of frames of one video after each of which time and memory are measured, in place of `memory`.

    Raises:
        ConfigError: if a value is out of range.
    """

    sizes: Sequence[tuple[int, int]]
    objects: Sequence[int]
    memory: Sequence[int]
    repeats: int = 2
    lengths: Sequence[int] = ()

    def __post_init__(self) -> None:
        for name in ("sizes", "objects", "memory", "lengths"):
            if not isinstance(getattr(self, name), (list, tuple)):
                raise ConfigError(f"{name}={getattr(self, name)}: must be a list")
        _at_least(1, "repeats", self.repeats)
        _at_least(0, "objects", *self.objects)
        _at_least(1, "memory", *self.memory)
        _at_least(FIRST + 1, "lengths", *self.lengths)
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
        frames: number of frames in the memory; None for methods without a memory, and after `length` frames.
        length: number of frames of the video so far; None where `frames` says what is in the memory.
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
    length: int | None = None
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

    @property
    def total_bytes(self) -> int | None:
        """Size of the whole state."""
        return None if self.state_bytes is None else self.state_bytes + (self.memory_bytes or 0)


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
    if grid.lengths:
        for size, objects in product(grid.sizes, grid.objects):
            start = Measurement((size[0], size[1]), objects, None)
            yield from measure_lengths(segmenter, start, sorted({*grid.lengths}), grid.repeats, settings, stages)
        return
    memory = grid.memory if _has_memory(segmenter, settings) else [None]
    for size, objects, frames in product(grid.sizes, grid.objects, memory):
        point = Measurement((size[0], size[1]), objects, frames)
        try:
            point = measure(segmenter, point, grid.repeats, settings, stages)
        except (RuntimeError, MemoryError) as error:
            point = _failed(point, error)
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
        # Without a name for the memory, which would keep it beside the larger one that replaces it.
        if point.frames is not None and memory_of(state) is not None:
            state = replace(state, memory=memory_of(state).repeat(point.frames))
        point = _with_sizes(point, state)
        _, state = segmenter.step(_at(frame, FIRST), state)
        point, _ = _with_times(point, segmenter, frame, state, range(FIRST + 1, FIRST + 1 + repeats), stages)
    return replace(point, peak_bytes=_peak_bytes(device))


@torch.no_grad()
def measure_lengths(
    segmenter: Segmenter[Any],
    start: Measurement,
    lengths: Sequence[int],
    repeats: int,
    settings: Settings,
    stages: Sequence[str] = (),
) -> Iterator[Measurement]:
    """Propagate through one video and measure after some numbers of frames.

    Args:
        segmenter: segmenter in evaluation mode.
        start: size and objects to measure.
        lengths: numbers of frames, ascending.
        repeats: number of timed steps before each length; fewer where the one before is closer.
        settings: precision of the measurement.
        stages: names of methods that `step` calls.

    Yields:
        one measurement per length.
    """
    device = device_of(segmenter)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    frame, state, done = None, None, FIRST
    for number, length in enumerate(lengths):
        begin = max(done, length - repeats)
        try:
            with torch.autocast(device.type, settings.dtype, enabled=settings.precision != "fp32"):
                if frame is None:
                    frame, state = start_random_video(segmenter, start.size, start.objects)
                for index in range(done, begin):
                    _, state = segmenter.step(_at(frame, index), state)
                point = replace(start, length=length)
                point, state = _with_times(point, segmenter, frame, state, range(begin, length), stages)
        except (RuntimeError, MemoryError) as error:
            yield from [_failed(replace(start, length=later), error) for later in lengths[number:]]
            return
        yield replace(_with_sizes(point, state), peak_bytes=_peak_bytes(device))
        done = length


def _with_times(
    point: Measurement, segmenter: Segmenter[Any], frame: Frame, state: Any, indices: range, stages: Sequence[str]
) -> tuple[Measurement, Any]:
    """Propagate through the frames `indices`; return the point with the mean times of a step, and the state."""
    device = device_of(segmenter)
    with timed(segmenter, stages) as seconds:
        started = now(device)
        for index in indices:
            _, state = segmenter.step(_at(frame, index), state)
        total = now(device) - started
    steps = len(indices)
    return replace(point, seconds=total / steps, stages={name: seconds[name] / steps for name in stages}), state


def _with_sizes(point: Measurement, state: Any) -> Measurement:
    """Return the point with the sizes of a state."""
    memory = memory_of(state)
    memory_bytes = None if memory is None else memory.nbytes()
    return replace(point, memory_bytes=memory_bytes, state_bytes=state.nbytes() - (memory_bytes or 0))


def _failed(point: Measurement, error: Exception) -> Measurement:
    """Return a point without numbers if there was not enough memory for it.

    Raises:
        Exception: any other error, as it is.
    """
    if not is_out_of_memory(error):
        raise error
    return replace(point, error="out of memory")


def _peak_bytes(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def memory_of(state: Any) -> Any:
    """Return the memory of a state if it has `repeat(frames)`, as in `voslab.nn.memory`; else None."""
    memory = getattr(state, "memory", None)
    return memory if isinstance(memory, State) and hasattr(memory, "repeat") else None


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
