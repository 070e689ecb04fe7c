"""Computes the order in which frames of coded video are segmented, and restores presentation order.

The base model segments key frames in presentation order. Every other frame follows the frames it refers to.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from voslab.core import RawFrame

_MAX_REFERENCE_DISTANCE = 256  # frames; no frame refers further back


class Indexed(Protocol):
    """An object with the presentation index of its frame."""

    @property
    def index(self) -> int:
        """Presentation index, from 0."""
        ...


T = TypeVar("T", bound=Indexed)


class ScheduledFrame(NamedTuple):
    """A frame that can be segmented next.

    Attributes:
        frame: the frame.
        key: whether it is a key frame, which the base model segments.
        live_refs: presentation indices of the frames that later frames may refer to; None if unknown.
    """

    frame: RawFrame
    key: bool
    live_refs: frozenset[int] | None = None


class _WaitingFrame(NamedTuple):
    """A frame that waits for its turn, and the presentation indices of its references."""

    frame: RawFrame
    references: frozenset[int]


def schedule_frames(frames: Iterable[RawFrame], given: Collection[int]) -> Iterator[ScheduledFrame]:
    """Compute the order in which frames can be segmented. Video without B-frames keeps its order.

    Key frames are I- and P-frames, unless their codec data say otherwise (see `select_keys`), and frames without codec
    data. If a mask is given for another frame, this frame and all following ones up to the next key frame are key
    frames too, because none of their references has that mask. Key frames come in presentation order, other frames as
    soon as their references are segmented. At most the frames between two key frames are in memory.

    Args:
        frames: frames in decode order: each follows its references.
        given: presentation indices of the frames with given masks.

    Yields:
        the frames, each after the frames that its segmentation depends on.
    """
    waiting: list[_WaitingFrame] = []
    done: set[int] = set()
    anchors: list[int] = []
    starts = sorted(given)
    for frame in frames:
        live_refs = None if frame.codec is None else frame.codec.live_refs
        waiting.append(_WaitingFrame(frame, _references(frame)))
        if frame.codec is None or frame.codec.is_key:
            anchors = [*anchors[-_MAX_REFERENCE_DISTANCE:], frame.index]
        while (ready := _ready(waiting, done, anchors, starts)) is not None:
            index = ready.frame.index
            waiting = [one for one in waiting if one.frame is not ready.frame]
            done = {other for other in done if other > index - _MAX_REFERENCE_DISTANCE} | {index}
            yield ready._replace(
                live_refs=None if live_refs is None else live_refs.union(*(one.references for one in waiting))
            )
    # Frames whose references are missing.
    for one in sorted(waiting, key=lambda one: one.frame.index):
        yield ScheduledFrame(one.frame, True)


def presentation_order(results: Iterable[T], begin: int | None = None) -> Iterator[T]:
    """Sort results by presentation order.

    Args:
        results: results in any order, with consecutive indices.
        begin: index of the first one; None: that of the first result that comes.

    Yields:
        the results, each as soon as all earlier ones have been yielded.
    """
    waiting: list[tuple[int, int, T]] = []
    following = begin
    for arrival, result in enumerate(results):
        heapq.heappush(waiting, (result.index, arrival, result))
        following = result.index if following is None else following
        while waiting and waiting[0][0] <= following:
            index, _, first = heapq.heappop(waiting)
            following = index + 1
            yield first
    while waiting:
        yield heapq.heappop(waiting)[2]


def _ready(
    waiting: list[_WaitingFrame], done: set[int], anchors: list[int], starts: list[int]
) -> ScheduledFrame | None:
    """Return the next waiting frame that can be segmented."""
    key_is_waiting = False
    for frame, references in sorted(waiting, key=lambda one: one.frame.index):
        index = frame.index
        before = max((anchor for anchor in anchors if anchor < index), default=-1)
        place = bisect_right(starts, before)
        start = starts[place] if place < len(starts) else index + 1
        if index in anchors or start <= index:
            if not key_is_waiting and done.issuperset(range(start, index)):
                return ScheduledFrame(frame, True)
            key_is_waiting = True
        elif done.issuperset(references):
            return ScheduledFrame(frame, False)
    return None


def _references(frame: RawFrame) -> frozenset[int]:
    """Return the references of a frame that is propagated; key frames follow theirs in decode order anyway."""
    codec = frame.codec
    if codec is None or codec.references is None or codec.is_key:
        return frozenset()
    return frozenset(index for index in np.unique(codec.references.numpy()).tolist() if index >= 0)
