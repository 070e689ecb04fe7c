"""Tests of `python -m src.segment video=STREAM`: network addresses, pipes and cameras."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from tests.conftest import Run
from tests.test_hostile import mask
from tests.video.clips import encode, moving_square
from tests.video.servers import http_server, pipe
from voslab.methods.copy_first.network import CopyFirst
from voslab.predictor import Predictor, default_checkpoint
from voslab.video import open_video, read_mask

COUNT, SIZE = 30, (48, 64)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("streams") / "clip.ts", moving_square(COUNT, SIZE), bf="2")


@pytest.fixture
def given(tmp_path: Path) -> Path:
    labels = np.zeros(SIZE, np.uint8)
    labels[8:24, :12] = 3
    return mask(tmp_path / "m.png", labels)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the network slower than the stream."""
    step = CopyFirst.step

    def delayed(self: CopyFirst, frame: object, state: object) -> object:
        time.sleep(0.1)
        return step(self, frame, state)  # type: ignore[arg-type]

    monkeypatch.setattr(CopyFirst, "step", delayed)


def masks(output: Path) -> int:
    names = sorted(path.name for path in (output / "masks").glob("*.png"))
    assert names == [f"{index:05d}.png" for index in range(len(names))]
    return len(names)


def frame_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("source", ["http", "pipe"])
def test_late_frames_are_dropped_and_counted(run: Run, clip: Path, given: Path, tmp_path: Path, source: str) -> None:
    output = tmp_path / "out"
    content = clip.read_bytes()
    served = http_server(content, "live.ts", length=False) if source == "http" else pipe(tmp_path / "pipe", content)
    with served as address:
        assert not run("segment", f"video={address}", f"mask={given}", "model=copy_first", f"output={output}")
    count, times = masks(output), frame_times(output / "overlay.mp4")
    assert 2 <= count <= 20
    assert len(times) == count
    # The frames that are left keep their times: the last one is the last of the stream.
    assert abs(times[-1] - (COUNT - 1) / 25) < 0.1
    assert (read_mask(output / "masks" / "00000.png") == read_mask(given)).all()


def test_the_number_of_dropped_frames_is_printed(clip: Path, given: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "voslab", "segment", "model=copy_first", "video=-", f"mask={given}"]
    command += [f"output={tmp_path / 'out'}", "save=[masks]"]
    done = subprocess.run(command, input=clip.read_bytes(), capture_output=True, timeout=120, check=True)
    found = re.search(rb"(\d+) frames \((\d+) of (\d+) frames of the stream were dropped\)", done.stdout)
    assert found is not None, done.stdout
    kept, dropped, total = map(int, found.groups())
    assert (total, kept + dropped) == (COUNT, COUNT)
    assert kept == masks(tmp_path / "out")


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("source", ["http", "pipe"])
def test_all_frames_are_kept_on_request(run: Run, clip: Path, given: Path, tmp_path: Path, source: str) -> None:
    content, output = clip.read_bytes(), tmp_path / "out"
    served = http_server(content, "live.ts", length=False) if source == "http" else pipe(tmp_path / "pipe", content)
    with served as address:
        options = (f"video={address}", f"mask={given}", "model=copy_first", "drop_frames=false", "save=[masks]")
        assert not run("segment", *options, f"output={output}")
    assert masks(output) == COUNT


@pytest.mark.usefixtures("slow")
def test_the_address_of_a_file_loses_no_frame(run: Run, given: Path, tmp_path: Path) -> None:
    images = moving_square(12, SIZE)
    clip = encode(tmp_path / "clip.mp4", images, muxer={"movflags": "faststart"})
    with http_server(clip.read_bytes(), "a clip.mp4".replace(" ", "%20")) as address:
        options = (f"video={address}", f"mask={given}", "model=copy_first", "save=[masks]")
        assert not run("segment", *options, f"output={tmp_path / 'out'}")
    assert masks(tmp_path / "out") == len(images)


def test_coded_streams_give_the_masks_of_the_file(clip: Path, given: Path) -> None:
    """CoVOS gets the same motion vectors and references from a stream as from a file."""
    predictor = Predictor.load(default_checkpoint().with_name("scratch_covos.safetensors"), size=48, device="cpu")
    expected = list(predictor.segment(clip, given))
    assert not all(one.key for one in expected)
    with http_server(clip.read_bytes(), "live.ts", length=False) as address:
        found = list(predictor.segment(open_video(address, drop_frames=False), given))
    assert [one.key for one in found] == [one.key for one in expected]
    assert all(np.array_equal(one.ids, other.ids) for one, other in zip(found, expected, strict=True))


@pytest.mark.usefixtures("slow")
def test_coded_streams_drop_whole_groups(run: Run, clip: Path, given: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with http_server(clip.read_bytes(), "live.ts", length=False) as address:
        model = ("model=covos", "model/base=copy_first", "engine.size=48")
        assert not run("segment", f"video={address}", f"mask={given}", *model, f"output={output}")
    assert 2 <= masks(output) < COUNT


def test_coded_streams_without_motion_vectors_name_a_way_out(run: Run, given: Path, tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mkv", moving_square(5, SIZE), "ffv1", pixels="bgr0")
    with http_server(clip.read_bytes(), "live.mkv", length=False) as address:
        model = ("model=covos", "model/base=copy_first", f"output={tmp_path / 'out'}")
        error = run("segment", f"video={address}", f"mask={given}", *model)
    assert error.startswith(f"{address}: the decoder of ffv1 gives no motion vectors; use a model that reads no codec")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("77", r"77: there is no such camera \(/dev/video77 does not exist\)"),
        ("/dev/video78", r"/dev/video78: there is no such camera \(/dev/video78 does not exist\)"),
        ("rtsp://me:secret@127.0.0.1:1/a", r"rtsp://127\.0\.0\.1:1/a: cannot be opened \(Connection refused\)"),
        ("https://127.0.0.1:1/a/b.mp4", r"https://127\.0\.0\.1:1/a/b\.mp4: cannot be opened \(Connection refused\)"),
        ("file:///etc/hostname", r"file:///etc/hostname: cannot be opened \(.*\)"),
    ],
)
def test_a_stream_that_cannot_be_opened_is_one_line(
    run: Run, given: Path, tmp_path: Path, source: str, reason: str
) -> None:
    error = run("segment", f"video={source}", f"mask={given}", "model=copy_first", f"output={tmp_path / 'out'}")
    assert re.fullmatch(reason, error), error


def test_a_missing_page_and_a_page_without_video_are_one_line(run: Run, given: Path, tmp_path: Path) -> None:
    with http_server(b"<html>", "page.html") as address:
        for url, reason in ((f"{address}x", "404 Not Found"), (address, "Invalid data found")):
            error = run("segment", f"video={url}", f"mask={given}", "model=copy_first", f"output={tmp_path / 'out'}")
            assert error.startswith(f"{url}: cannot be opened (")
            assert reason in error


def test_a_pipe_without_a_writer_is_not_waited_for_without_end(
    run: Run, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voslab.video.stream.PATIENCE", 0.2)
    path = tmp_path / "silent"
    with pipe(path, b"", hold=5):
        error = run("segment", f"video={path}", f"mask={given}", "model=copy_first", f"output={tmp_path / 'out'}")
    assert error == f"{path}: nothing was written to this pipe within 0.2 s"


def test_a_pipe_that_was_written_and_closed_before_it_is_read_is_complete(clip: Path, tmp_path: Path) -> None:
    with pipe(tmp_path / "pipe", clip.read_bytes()) as path:
        held = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        time.sleep(0.3)
        assert len(clip.read_bytes()) < 60_000, "fits into a pipe, so that the writer is done"
        video = open_video(path, drop_frames=False)
        os.close(held)
        assert len(list(video)) == COUNT


def test_masks_of_later_frames_are_refused(run: Run, clip: Path, given: Path, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    for index in (0, 4):
        mask(tmp_path / "given" / f"{index:05d}.png", read_mask(given).astype(np.uint8))
    with http_server(clip.read_bytes(), "live.ts", length=False) as address:
        options = (f"video={address}", f"mask={tmp_path / 'given'}", "model=copy_first")
        error = run("segment", *options, f"output={tmp_path / 'out'}")
    assert error.startswith(f"{address}: mask given for frame 4, but a stream takes a mask of its first frame only")


def test_a_wrong_value_of_drop_frames_is_named(run: Run, clip: Path, given: Path, tmp_path: Path) -> None:
    error = run("segment", f"video={clip}", f"mask={given}", f"output={tmp_path / 'out'}", "drop_frames=some")
    assert error == "drop_frames=some: must be true, false or null"


def test_a_stream_is_read_only_once(clip: Path) -> None:
    with http_server(clip.read_bytes(), "live.ts", length=False) as address:
        video = open_video(address)
        assert len(list(video)) == COUNT
        with pytest.raises(Exception, match=r"live\.ts: a stream can be read only once"):
            next(iter(video))


@pytest.mark.slow
def test_ctrl_c_ends_a_stream_and_completes_the_files(clip: Path, given: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pipe(tmp_path / "pipe", clip.read_bytes(), hold=60) as path:
        command = [sys.executable, "-m", "voslab", "segment", "model=copy_first", f"video={path}", f"mask={given}"]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen([*command, f"output={output}"], text=True, **streams) as running:  # type: ignore[call-overload]
            while not (output / "masks" / "00003.png").is_file():
                assert running.poll() is None
                time.sleep(0.05)
            time.sleep(1)
            running.send_signal(signal.SIGINT)
            said, _ = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "Traceback" not in said
    found = re.search(
        r"stopped by SIGINT after (\d+) frames \((\d+) of (\d+) frames of the stream were dropped\)", said
    )
    assert found is not None, said
    assert sum(1 for _ in open_video(output / "overlay.mp4")) == masks(output)
