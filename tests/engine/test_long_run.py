from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from time import sleep

import numpy as np
import pytest

from voslab.core import WriteError
from voslab.engine import OverlaySink, Prediction, consume, mask_sink, run
from voslab.engine.prediction import Throughput
from voslab.methods.copy_first.network import CopyFirst
from voslab.video import BackgroundWriter


def handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def predictions(count: int) -> Iterator[Prediction]:
    mask = np.zeros((16, 24), np.int64)
    mask[4:10, 4:10] = 3
    return run(CopyFirst(), (np.full((16, 24, 3), i % 256, np.uint8) for i in range(count)), {0: mask})


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
def test_ten_thousand_frames_leak_no_files_or_threads(tmp_path: Path) -> None:
    marks: dict[int, tuple[int, set[threading.Thread]]] = {}

    def each(prediction: Prediction, throughput: Throughput) -> None:
        if throughput.frames in (500, 9_990):
            marks[throughput.frames] = handles(), set(threading.enumerate())

    # Every mask is synced to the disk, so only some are written.
    sinks = [mask_sink(tmp_path / "masks", {index: f"{index}" for index in range(0, 10_000, 50)}), overlay(tmp_path)]
    assert consume(predictions(10_000), sinks, each).frames == 10_000
    # The mask that is being written may be open or not.
    assert marks[9_990][0] <= marks[500][0] + 2
    # A thread of an earlier test may have ended.
    assert marks[9_990][1] <= marks[500][1]


def overlay(folder: Path) -> OverlaySink:
    return OverlaySink(folder / "overlay.mp4", Fraction(25), (16, 24))


def test_slow_consumer_pauses_the_reader() -> None:
    written: list[int] = []
    prefetch_map: list[int] = []

    def slow(prediction: Prediction) -> None:
        sleep(0.002)
        written.append(prediction.index)

    def each(prediction: Prediction, throughput: Throughput) -> None:
        prefetch_map.append(throughput.frames - len(written))

    consume(predictions(100), [BackgroundWriter(slow, capacity=4)], each)
    assert written == list(range(100))
    assert max(prefetch_map) <= 4 + 2


def test_late_write_error_stops_an_endless_video(tmp_path: Path) -> None:
    def fail(prediction: Prediction) -> None:
        if prediction.index == 50:
            raise WriteError("disk full")

    seen = Throughput()

    def each(prediction: Prediction, throughput: Throughput) -> None:
        seen.frames = throughput.frames

    with pytest.raises(WriteError, match="disk full"):
        consume(predictions(1_000_000), [BackgroundWriter(fail, capacity=4)], each)
    assert seen.frames < 100
