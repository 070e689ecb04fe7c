"""Propagates masks forward, backward or in both directions through a part of a video."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from voslab.core import ConfigError, DataError, RawFrame, Segmenter
from voslab.engine.given_masks import MaskScope, find_mask_scope
from voslab.engine.mirror import Labels, Mirror
from voslab.engine.prediction import Prediction
from voslab.engine.runner import run
from voslab.engine.settings import Settings

Direction = Literal["forward", "backward", "both"]
"""`forward`: a frame takes its objects from the last given mask before it. `backward`: from the first one after it.
`both`: from the nearer one, the earlier of two equally near ones."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameSource:
    """Frames of a video, as `propagate` reads them.

    Attributes:
        forward: yields frames as `run` takes them. The first one is at or before a given index.
        backward: yields frames in reverse (see `in_reverse`), the first ones at or after a given index; None for
            streams.
        read: reads one frame, without codec data; None for streams.
        count: returns the exact number of frames; None for streams.
    """

    forward: Callable[[int], Iterable[RawFrame | NDArray[np.uint8]]]
    backward: Callable[[int], Iterator[RawFrame]] | None = None
    read: Callable[[int], RawFrame] | None = None
    count: Callable[[], int] | None = None


@dataclass(frozen=True)
class Part:
    """A part of a video and the direction of propagation.

    Attributes:
        direction: see `Direction`.
        start: presentation index of the first frame, whatever the direction.
        end: presentation index of the last frame; None: the last one of the video.
    """

    direction: Direction = "forward"
    start: int = 0
    end: int | None = None


def check_direction(value: Any) -> Direction:
    """Check the direction that a user states.

    Raises:
        ConfigError: if it is unknown.
    """
    if value not in get_args(Direction):
        raise ConfigError(f"direction={value}: choose from {', '.join(get_args(Direction))}")
    direction: Direction = value
    return direction


@dataclass(frozen=True)
class _Job:
    """What the passes in both directions share."""

    segmenter: Segmenter[Any]
    source: FrameSource
    part: Part
    settings: Settings
    probabilities: bool
    scope: MaskScope
    given: Sequence[int]
    outside: Mapping[int, Labels]

    def forward(self, masks: Mapping[int, Labels]) -> Iterator[Prediction]:
        """Yield predictions up to the end of the part."""
        start, end = self.part.start, self.part.end
        earlier = self._outside([index for index in sorted(self.outside) if index < start])
        for prediction in run(
            *(self.segmenter, self.source.forward(start), masks, self.settings, self.probabilities, self.scope),
            start=start,
            earlier=earlier,
        ):
            yield prediction
            if end is not None and prediction.index >= end:
                return

    def backward(self, masks: Mapping[int, Labels], start: int) -> Iterator[Prediction]:
        """Yield predictions from the end of the part down to frame `start`."""
        assert self.source.backward is not None, "`propagate` refuses streams"
        assert self.part.end is not None, "`propagate` sets the end"
        mirror = Mirror(masks, self.part.end)
        later = self._outside([index for index in sorted(self.outside, reverse=True) if index > mirror.last])
        frames = map(mirror.frame, self.source.backward(mirror.last))
        for prediction in run(
            *(self.segmenter, frames, mirror, self.settings, self.probabilities, self.scope),
            start=0,
            earlier=((mirror.frame(frame), labels) for frame, labels in later),
            number=mirror.index,
        ):
            prediction = replace(prediction, index=mirror.index(prediction.index))
            yield prediction
            if prediction.index <= start:
                return

    def both(self, masks: Mapping[int, Labels]) -> Iterator[Prediction]:
        """Yield the frames that are nearer to a mask before them, in order; then the others, in reverse."""
        completed: dict[int, Labels] = {}
        first, last = self.given[0], self.given[-1]
        for prediction in replace(self, part=replace(self.part, start=first)).forward(masks):
            if self.scope == "partial" and prediction.index in masks:
                completed[prediction.index] = prediction.ids.astype(np.min_scalar_type(prediction.ids.max()))
            if self._nearest(prediction.index) <= prediction.index:
                yield prediction
        gaps = [index for index in range(self.part.start, last) if self._nearest(index) > index]
        if not gaps:
            return
        backward = replace(self, part=replace(self.part, end=last), scope="full")
        for prediction in backward.backward(completed or masks, gaps[0]):
            if self._nearest(prediction.index) > prediction.index:
                yield prediction

    def _nearest(self, index: int) -> int:
        place = bisect_right(self.given, index)
        around = self.given[max(0, place - 1) : place + 1]
        return min(around, key=lambda given: (abs(given - index), given))

    def _outside(self, indices: Sequence[int]) -> Iterator[tuple[RawFrame, Labels]]:
        """Read the frames outside the part whose masks are given."""
        if self.source.read is not None:
            yield from ((self.source.read(index), self.outside[index]) for index in indices)


def propagate(
    segmenter: Segmenter[Any],
    source: FrameSource,
    masks: Mapping[int, Labels],
    part: Part,
    settings: Settings,
    probabilities: bool = False,
    mask_scope: MaskScope | None = None,
) -> Iterator[Prediction]:
    """Propagate masks through a part of a video.

    Masks outside the part are memorised with their frames, right before the first mask inside it; the frames between
    are not read. With `both`, the masks inside the part are completed in the forward pass, so that a mask that holds
    some objects only (`mask_scope=partial`) does not end the others.

    Args:
        segmenter: segmenter in evaluation mode, on any device.
        source: frames of the video.
        masks: label maps H W by presentation index.
        part: direction and range.
        settings: working size and precision.
        probabilities: see `run`.
        mask_scope: see `run`.

    Returns:
        An iterator over one `Prediction` per frame of the part: in presentation order with `forward`, in reverse with
        `backward`. `both` yields first the frames that take their objects from a mask before them, in order, and then
        the others, in reverse. Frames that no mask reaches are background, and a warning names them.

    Raises:
        ConfigError: if the source is a stream and the direction is not `forward`, or the part lies outside the video.
        DataError: if no mask is given inside the part; while iterating, see `run`.
    """
    if part.direction != "forward" and source.backward is None:
        raise ConfigError(
            f"direction={part.direction}: a stream of frames cannot be read backward; give a file, a folder or a list"
        )
    part = _within(part, source, masks)
    inside = {index for index in masks if part.start <= index and (part.end is None or index <= part.end)}
    if not inside:
        known = ", ".join(map(str, sorted(masks)[:5]))
        to = "the end" if part.end is None else str(part.end)
        raise DataError(
            f"no mask is given for a frame from {part.start} to {to}, only for {known}; give one there, or change"
            " start and end"
        )
    _warn_of_empty_frames(part, inside)
    scope = mask_scope or find_mask_scope(masks)
    outside = _Selected(masks, set(masks) - inside)
    job = _Job(segmenter, source, part, settings, probabilities, scope, sorted(inside), outside)
    chosen = _Selected(masks, inside)
    if part.direction == "forward":
        return job.forward(chosen)
    return job.backward(chosen, part.start) if part.direction == "backward" else job.both(chosen)


class _Selected(Mapping[int, Labels]):
    """Some masks of a mapping that may read them on access."""

    def __init__(self, masks: Mapping[int, Labels], indices: set[int]) -> None:
        self._masks, self._indices = masks, sorted(indices)

    def __getitem__(self, index: int) -> Labels:
        if index not in self._indices:
            raise KeyError(index)
        return self._masks[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def _within(part: Part, source: FrameSource, masks: Mapping[int, Labels]) -> Part:
    """Check that a part lies inside the video, and find its end if it is propagated backward."""
    start, end = part.start, part.end
    if end is not None and start > end:
        raise ConfigError(f"start={start} comes after end={end}; both are counted from 0, whatever the direction")
    if source.count is None or (part.direction == "forward" and not start):
        return part
    last = source.count() - 1
    if start > last:
        raise ConfigError(f"start={start}: the video ends with frame {last}")
    if max(masks) > last:
        raise DataError(f"mask given for frame {max(masks)}, but the video ends with frame {last}")
    return replace(part, end=last if end is None else min(end, last))


def _warn_of_empty_frames(part: Part, given: set[int]) -> None:
    first, last = min(given), max(given)
    if part.direction == "forward" and first > part.start:
        empty, where = (part.start, first - 1), f"before the first mask (frame {first})"
    elif part.direction == "backward" and part.end is not None and last < part.end:
        empty, where = (last + 1, part.end), f"after the last mask (frame {last})"
    else:
        return
    frames = f"frame {empty[0]} is" if empty[0] == empty[1] else f"frames {empty[0]} to {empty[1]} are"
    _log.warning("%s %s and stay empty; direction=both segments them too", frames, where)
