"""Computes the order in which frames of coded video are segmented, and restores presentation order.

The base model segments key frames in presentation order. Every other frame follows the frames it refers to.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from voslab.core import RawFrame

_MAX_REFERENCE_DISTANCE = 256  # frames; no frame refers further back


class Indexed(Protocol):
    """An object with the presentation index of its frame."""

    @property
    def index(self) -> int:
        """From 0."""
        ...


T = TypeVar("T", bound=Indexed)


class ScheduledFrame(NamedTuple):
    """A frame that can be segmented next.

    Attributes:
        picture: the frame.
        key: whether the base model must look at it.
        live_refs: presentation indices of the frames that later frames may refer to; None: not known.
    """

    picture: RawFrame
    key: bool
    live_refs: frozenset[int] | None = None


class _WaitingFrame(NamedTuple):
    """A frame that waits for its turn, and the presentation indices of its references."""

    picture: RawFrame
    references: frozenset[int]


class _ObjectStarts:
    """Finds the frames in which objects appear; masks are read lazily."""

    def __init__(self, masks: Mapping[int, NDArray[np.integer]]) -> None:
        self._masks = masks
        self._left = sorted(masks, reverse=True)
        self._known = {0}
        self._found: list[int] = []

    def first(self, before: int, index: int) -> int | None:
        """Return the first frame after `before` and up to `index` in which an object appears."""
        while self._left and self._left[-1] <= index:
            frame = self._left.pop()
            new = set(np.unique(self._masks[frame]).tolist()) - self._known
            self._known |= new
            self._found += [frame] if new else []
        return next((frame for frame in self._found if before < frame <= index), None)


def schedule_frames(pictures: Iterable[RawFrame], masks: Mapping[int, NDArray[np.integer]]) -> Iterator[ScheduledFrame]:
    """Order pictures that come in decode order; plain ones, and those of video without B-frames, pass through.

    Key frames are I- and P-frames, plain pictures, and each B-frame in whose mask an object appears with all that
    follow it up to the next I- or P-frame: that object has no mask in any frame they refer to. Key frames come in
    presentation order, other frames as soon as all they refer to have come. As many pictures are held as one group of
    B-frames has.

    Args:
        pictures: each behind those that it refers to.
        masks: label maps by presentation index of the frame that they are given for.
    """
    held: list[_WaitingFrame] = []
    done: set[int] = set()
    anchors: list[int] = []
    object_starts = _ObjectStarts(masks)
    for picture in pictures:
        live_refs = None if picture.codec is None else picture.codec.live_refs
        held.append(_WaitingFrame(picture, _references(picture)))
        if picture.codec is None or picture.codec.type != "B":
            anchors = [*anchors[-_MAX_REFERENCE_DISTANCE:], picture.index]
        while (ready := _ready(held, done, anchors, object_starts)) is not None:
            held = [one for one in held if one.picture is not ready.picture]
            done = {index for index in done if index > ready.picture.index - _MAX_REFERENCE_DISTANCE} | {
                ready.picture.index
            }
            yield ready._replace(
                live_refs=None if live_refs is None else live_refs.union(*(one.references for one in held))
            )
    # Frames whose references are missing.
    for one in sorted(held, key=lambda one: one.picture.index):
        yield ScheduledFrame(one.picture, True)


def presentation_order(things: Iterable[T]) -> Iterator[T]:
    """Yield results in presentation order, each as soon as all earlier ones have been yielded."""
    waiting: list[tuple[int, int, T]] = []
    following: int | None = None
    for arrival, thing in enumerate(things):
        heapq.heappush(waiting, (thing.index, arrival, thing))
        following = thing.index if following is None else following
        while waiting and waiting[0][0] <= following:
            index, _, first = heapq.heappop(waiting)
            following = index + 1
            yield first
    while waiting:
        yield heapq.heappop(waiting)[2]


def _ready(
    held: list[_WaitingFrame], done: set[int], anchors: list[int], object_starts: _ObjectStarts
) -> ScheduledFrame | None:
    """Return the next waiting frame that can be segmented."""
    waiting_key = False
    for picture, references in sorted(held, key=lambda one: one.picture.index):
        index = picture.index
        before = max((anchor for anchor in anchors if anchor < index), default=-1)
        born = object_starts.first(before, index)
        if index in anchors or born is not None:
            if not waiting_key and done.issuperset(range(index if born is None else born, index)):
                return ScheduledFrame(picture, True)
            waiting_key = True
        elif done.issuperset(references):
            return ScheduledFrame(picture, False)
    return None


def _references(picture: RawFrame) -> frozenset[int]:
    """Return the references of a B-frame; other frames already follow theirs in decode order."""
    codec = picture.codec
    if codec is None or codec.references is None or codec.type != "B":
        return frozenset()
    return frozenset(index for index in np.unique(codec.references.numpy()).tolist() if index >= 0)
