"""Drops frames of a stream that arrive while the network is busy, so that the delay does not grow."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import torch

from voslab.core import DataError, RawFrame, VideoError
from voslab.video.stream import Stream

_log = logging.getLogger(__name__)
_LATE = 2.0
"""Seconds that a frame may be read after its time, without a warning."""
_MOST_REMEMBERED = 512
"""Kept frames that later ones may refer to."""


class LiveFrames:
    """Iterates over the frames of a stream: always the latest ones, renumbered without gaps.

    A thread reads and decodes every frame. At most one group of frames waits, which newer ones replace. A group is one
    frame, or for coded video a key frame and the B-frames before it, in decode order. The first group is never
    replaced, because its mask is given. B-frames that refer to a dropped frame are dropped too, and
    P-frames that would be propagated from one become key frames. An error after the
    first frame, such as a lost connection, ends the stream with a warning.

    Args:
        frames: every frame, in decode order; read in the thread.
        stream: counts the frames and says whether they are paced.
    """

    def __init__(self, frames: Iterator[RawFrame], stream: Stream) -> None:
        self._frames, self._stream = frames, stream
        self._waiting: deque[list[RawFrame]] = deque()
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._numbers: dict[int, int] = {}
        self._count = 0

    def __iter__(self) -> Iterator[RawFrame]:
        threading.Thread(target=self._read, name="stream", daemon=True).start()
        try:
            while (group := self._take()) is not None:
                yield from self._renumber(group)
        finally:
            self._stopped = True
        if self._error is not None:
            raise self._error

    def check_masks(self, indices: Iterable[int]) -> None:
        """Check that masks are given for the first frame only: the numbers of others depend on what is dropped.

        Args:
            indices: frames with given masks.

        Raises:
            DataError: if a mask is given for another frame.
        """
        if later := [index for index in indices if index > 0]:
            raise DataError(
                f"{self._stream}: mask given for frame {later[0]}, but a stream takes a mask of its first frame only,"
                " except with drop_frames=false"
            )

    def _take(self) -> list[RawFrame] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            return self._waiting.popleft() if self._waiting else None

    def _read(self) -> None:
        """Read the stream in the thread."""
        try:
            for group in _groups(self._paced()):
                self._offer(group)
        except VideoError as error:
            if self._stream.frames:
                _log.warning("the stream ended: %s", error)
            else:
                self._error = error
        except BaseException as error:  # raised in the thread of the network
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _paced(self) -> Iterator[RawFrame]:
        """Yield the frames, not before their time where the sender may be faster, and warn if they come late."""
        start: tuple[float, Fraction] | None = None
        warned = False
        for frame in self._frames:
            if self._stopped:
                return
            self._stream.frames += 1
            if frame.time is not None:
                start = start or (time.monotonic(), frame.time)
                early = float(frame.time - start[1]) - (time.monotonic() - start[0])
                if early > 0 and self._stream.paced:
                    time.sleep(early)
                if early < -_LATE and not warned:
                    warned = True
                    _log.warning(
                        "%s: frame %d was read %.0f s late; reading is slower than the stream, so the delay grows",
                        *(self._stream, frame.index, -early),
                    )
            yield frame

    def _offer(self, group: list[RawFrame]) -> None:
        with self._changed:
            if self._waiting and self._waiting[-1][0].index != 0:
                self._stream.dropped += len(self._waiting.pop())
            self._waiting.append(group)
            self._changed.notify_all()

    def _renumber(self, group: Sequence[RawFrame]) -> list[RawFrame]:
        """Number the frames of a group from the last kept one on; their references too."""
        kept: list[RawFrame] = []
        known = self._numbers.keys()
        for frame in group:
            if _references(frame) <= known | {one.index for one in kept}:
                kept.append(frame)
            elif frame.codec is not None and frame.codec.type != "B":
                # Later frames refer to a P-frame, so that it is segmented anew and not dropped.
                kept.append(replace(frame, codec=replace(frame.codec, key=True)))
        self._stream.dropped += len(group) - len(kept)
        for number, frame in enumerate(sorted(kept, key=lambda one: one.index), self._count):
            self._numbers[frame.index] = number
        self._count += len(kept)
        for old in list(self._numbers)[:-_MOST_REMEMBERED]:
            del self._numbers[old]
        return [self._renumbered(frame) for frame in kept]

    def _renumbered(self, frame: RawFrame) -> RawFrame:
        codec = frame.codec
        if codec is not None:
            references, live_refs = codec.references, codec.live_refs
            if references is not None:
                old = torch.unique(references)
                new = torch.tensor([self._numbers.get(int(index), -1) for index in old], dtype=references.dtype)
                references = new[torch.searchsorted(old, references)]
            if live_refs is not None:
                live_refs = frozenset(self._numbers[index] for index in live_refs if index in self._numbers)
            codec = replace(codec, references=references, live_refs=live_refs)
        return replace(frame, index=self._numbers[frame.index], codec=codec)


def _groups(frames: Iterator[RawFrame]) -> Iterator[list[RawFrame]]:
    """Yield groups of frames that are complete: all frames up to their key frame in presentation order."""
    group: list[RawFrame] = []
    before = -1
    for frame in frames:
        if group and (frame.codec is None or frame.codec.type != "B"):
            yield group
            group, before = [], max(before, *(one.index for one in group))
        group.append(frame)
        last = max(one.index for one in group)
        if len(group) == last - before:
            yield group
            group, before = [], last
    if group:
        yield group


def _references(frame: RawFrame) -> set[int]:
    """Return the frames that a frame is propagated from."""
    codec = frame.codec
    if codec is None or codec.references is None or codec.is_key:
        return set()
    return {index for index in torch.unique(codec.references).tolist() if index >= 0}
