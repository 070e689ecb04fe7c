"""Tests of dropped frames of a stream: the latest frames are kept, and references stay right."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.video.clips import encode, moving_square
from voslab.core import DataError, RawFrame, VideoError
from voslab.engine.live import LiveFrames
from voslab.engine.schedule import presentation_order, schedule_frames
from voslab.video.codec_reader import codec_frames

IMAGES = moving_square(40, (48, 64))


def live(frames: Iterator[RawFrame], paced: bool = False) -> tuple[LiveFrames, Any]:
    stream = SimpleNamespace(paced=paced, frames=0, dropped=0)
    return LiveFrames(frames, stream), stream  # type: ignore[arg-type]


def plain(count: int) -> Iterator[RawFrame]:
    return (RawFrame(index, IMAGES[index], time=Fraction(index, 25)) for index in range(count))


class Source:
    """Frames that are read only as far as the test allows."""

    def __init__(self, frames: Iterator[RawFrame]) -> None:
        self._frames, self._allowed, self.read = frames, threading.Semaphore(0), 0
        self.ended = threading.Event()

    def __iter__(self) -> Iterator[RawFrame]:
        return self

    def __next__(self) -> RawFrame:
        self._allowed.acquire()
        self.read += 1
        try:
            return next(self._frames)
        except StopIteration:
            self.ended.set()
            raise

    def allow(self, count: int) -> None:
        """Let the reader read frames, and wait until it asks for the one after."""
        for _ in range(count):
            self._allowed.release()
        deadline = time.monotonic() + 10
        while self._allowed._value and not self.ended.is_set() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)  # the last frame is on its way to the consumer


def sources(frames: list[RawFrame], clip: np.ndarray = IMAGES) -> list[int]:
    """Return the number in the clip of each frame."""
    return [int(np.abs(clip.astype(int) - one.image).mean((1, 2, 3)).argmin()) for one in frames]


def test_the_first_and_the_latest_frames_are_kept() -> None:
    source = Source(plain(10))
    frames, stream = live(iter(source))
    iterator = iter(frames)
    threading.Timer(0.2, source.allow, [4]).start()
    found = [next(iterator)]
    time.sleep(0.6)
    found.append(next(iterator))
    source.allow(4)
    found.append(next(iterator))
    source.allow(3)
    found += iterator
    assert [one.index for one in found] == list(range(len(found)))
    assert sources(found) == [0, 3, 7, 9]
    assert [one.time for one in found] == [Fraction(index, 25) for index in (0, 3, 7, 9)]
    assert (stream.frames, stream.dropped) == (10, 6)


def test_nothing_is_dropped_if_the_network_keeps_up() -> None:
    source = Source(plain(6))
    frames, stream = live(iter(source))
    found = []
    iterator = iter(frames)
    for _ in range(6):
        threading.Timer(0.05, source.allow, [1]).start()
        found.append(next(iterator))
    source.allow(1)
    assert not list(iterator)
    assert (sources(found), stream.dropped) == (list(range(6)), 0)


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> list[RawFrame]:
    clip = encode(tmp_path_factory.mktemp("live") / "clip.mp4", IMAGES, bf="3", **{"x264-params": "b-adapt=0:ref=2"})
    frames = list(codec_frames(clip, resolution="quarter"))
    assert sum(one.codec.type == "B" for one in frames) > 20  # type: ignore[union-attr]
    return frames


@pytest.mark.parametrize("pattern", [[2, 2, 9], [5, 1, 13], [3, 3, 3, 30]])
def test_references_of_coded_frames_stay_right(coded: list[RawFrame], pattern: list[int]) -> None:
    """Reads `pattern` frames at a time between two steps of the network."""
    source = Source(iter(coded))
    frames, stream = live(iter(source))
    threading.Thread(target=source.allow, args=[1]).start()
    found = []
    iterator = iter(frames)
    step = 0
    while (frame := next(iterator, None)) is not None:
        found.append(frame)
        if not source.ended.is_set():
            source.allow(pattern[step % len(pattern)])
            step += 1
            while not source.ended.is_set() and not frames._waiting:
                source.allow(1)
    clip = np.stack([one.image for one in sorted(coded, key=lambda one: one.index)])
    numbers = {one.index: number for one, number in zip(found, sources(found, clip), strict=True)}
    assert sorted(numbers) == list(range(len(found))), "presentation indices have no gaps"
    assert [numbers[index] for index in sorted(numbers)] == sorted(numbers.values())
    assert stream.dropped == len(coded) - len(found)
    assert stream.dropped > 0
    table = np.array([numbers[index] for index in range(len(numbers))])
    original = {one.index: one for one in coded}
    seen: set[int] = set()
    for frame in found:
        before, after = original[numbers[frame.index]].codec, frame.codec
        assert before is not None
        assert after is not None
        references = after.references.numpy()  # type: ignore[union-attr]
        source_references = before.references.numpy()  # type: ignore[union-attr]
        used = references >= 0
        assert np.array_equal(table[references[used]], source_references[used])
        if after.type == "B":
            assert np.array_equal(used, source_references >= 0), "a kept B-frame keeps all of its references"
            assert set(np.unique(references[used]).tolist()) <= seen
        seen.add(frame.index)
    order = [one.index for one in presentation_order(each.frame for each in schedule_frames(found, {0}))]
    assert order == list(range(len(found)))
    keys = [each.key for each in schedule_frames(found, {0}) if each.frame.codec.type == "B"]  # type: ignore[union-attr]
    assert not any(keys), "no B-frame waits for a reference that was dropped"


def test_a_lost_connection_ends_the_stream_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def lost() -> Iterator[RawFrame]:
        yield from plain(1)
        raise VideoError("rtsp://camera: Connection reset by peer")

    assert len(list(live(lost())[0])) == 1
    assert caplog.messages == ["the stream ended: rtsp://camera: Connection reset by peer"]


@pytest.mark.parametrize("error", [VideoError("no frame"), RuntimeError("decoder")])
def test_an_error_before_the_first_frame_is_raised(error: Exception) -> None:
    def broken() -> Iterator[RawFrame]:
        raise error
        yield

    with pytest.raises(type(error), match=str(error)):
        list(live(broken())[0])


def test_paced_frames_are_not_read_before_their_time() -> None:
    frames, stream = live(plain(6), paced=True)
    start = time.monotonic()
    found = list(frames)
    assert time.monotonic() - start > 0.19
    assert len(found) + stream.dropped == 6


@pytest.mark.parametrize(("seconds", "warnings"), [(0.05, 1), (0.0, 0)])
def test_reading_that_does_not_keep_up_is_told_once(
    seconds: float, warnings: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def slowly() -> Iterator[RawFrame]:
        for frame in plain(8):
            time.sleep(seconds)
            yield frame

    monkeypatch.setattr("voslab.engine.live._LATE", 0.03 if seconds else 2.0)
    list(live(slowly())[0])
    assert sum("so the delay grows" in line for line in caplog.messages) == warnings


def test_masks_of_later_frames_are_refused() -> None:
    frames, _ = live(plain(1))
    frames.check_masks([0])
    with pytest.raises(DataError, match="mask given for frame 3, but a stream takes a mask of its first frame only"):
        frames.check_masks([0, 3])
