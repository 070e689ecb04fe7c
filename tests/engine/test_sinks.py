from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from voslab.core import WriteError
from voslab.engine import OverlaySink, Prediction, consume, mask_sink, run
from voslab.engine.prediction import Throughput
from voslab.methods.copy_first.network import CopyFirst


def predictions(count: int, height: int = 33, width: int = 47) -> Iterator[Prediction]:
    mask = np.zeros((height, width), np.int64)
    mask[5:20, 5:20] = 3
    frames = (np.full((height, width, 3), 10 * i % 256, np.uint8) for i in range(count))
    return run(CopyFirst(), frames, {0: mask})


def test_masks_and_overlay_contain_every_frame(tmp_path: Path) -> None:
    sinks = [mask_sink(tmp_path / "masks"), OverlaySink(tmp_path / "o.mp4", Fraction(30000, 1001), (33, 47))]
    assert consume(predictions(12), sinks).frames == 12
    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert names == [f"{i:05d}.png" for i in range(12)]
    mask = Image.open(tmp_path / "masks" / "00011.png")
    assert mask.mode == "P"
    assert set(np.unique(np.asarray(mask))) == {0, 3}
    with av.open(str(tmp_path / "o.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(30000, 1001)
        assert sum(1 for _ in container.decode(stream)) == 12


def test_given_names_are_used(tmp_path: Path) -> None:
    consume(predictions(2), [mask_sink(tmp_path, {0: "frame_7", 1: "frame_10"})])
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["frame_10", "frame_7"]


def test_a_writer_that_fails_stops_the_run_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    seen = Throughput()

    def count(prediction: Prediction, throughput: Throughput) -> None:
        seen.frames = throughput.frames

    with pytest.raises(WriteError, match="file"):
        consume(predictions(500), [mask_sink(tmp_path / "file" / "masks")], count)
    assert seen.frames < 500


def test_an_error_of_the_video_leaves_no_half_overlay_but_the_masks_so_far(tmp_path: Path) -> None:
    def broken() -> Iterator[Prediction]:
        yield from predictions(3)
        raise RuntimeError("camera unplugged")

    sinks = [mask_sink(tmp_path / "masks"), OverlaySink(tmp_path / "overlay.mp4", Fraction(25), (33, 47))]
    with pytest.raises(RuntimeError, match="camera unplugged"):
        consume(broken(), sinks)
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]
    assert len(list((tmp_path / "masks").iterdir())) == 3
