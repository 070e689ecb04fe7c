"""Tests of `python -m src.segment`: masks are written while the video is decoded, and kept if it is stopped."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Run
from tests.test_cli import ROOT
from tests.test_hostile import IMAGES, mask
from tests.video.clips import encode
from voslab.core import RawFrame
from voslab.video import Video, open_video


def test_masks_are_written_while_decoding_and_frames_are_decoded_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, first = encode(tmp_path / "clip.mp4", IMAGES), tmp_path / "out" / "masks" / "00000.png"
    decoded: Counter[int] = Counter()

    def opened(path: Path, drop_frames: bool | None = None) -> Video:
        video = open_video(path)

        def frames() -> Iterator[RawFrame]:
            for frame in video:
                if frame.index == 2:
                    deadline = time.monotonic() + 60
                    while not first.exists() and time.monotonic() < deadline:
                        time.sleep(0.01)
                    assert first.exists(), "two frames are decoded and there is no mask yet"
                decoded[frame.index] += 1
                yield frame

        return replace(video, decode=frames)

    monkeypatch.setattr("voslab.cli.segment_video.open_video", opened)
    given = mask(tmp_path / "m.png")
    assert not run("segment", f"video={clip}", f"mask={given}", "model=copy_first", f"output={tmp_path}/out")
    assert decoded == dict.fromkeys(range(len(IMAGES)), 1)
    assert not (tmp_path / "out" / "segment.log").exists(), "there was no message"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_program_keeps_the_frames_so_far(tmp_path: Path, number: signal.Signals, code: int) -> None:
    frames, out = tmp_path / "frames", tmp_path / "out"
    frames.mkdir()
    Image.fromarray(IMAGES[0]).save(frames / "00000.png")
    for index in range(1, 3000):
        shutil.copyfile(frames / "00000.png", frames / f"{index:05d}.png")
    (out / "masks").mkdir(parents=True)
    partial = (out / ".overlay.0123456789ab.mp4", out / "masks" / ".00007.0123456789ab.png")
    for path in (*partial, out / ".keep.mp4"):
        path.write_text("from an earlier run")
    arguments = (f"video={frames}", f"mask={mask(tmp_path / 'm.png')}", "model=copy_first", f"output={out}")
    command = [sys.executable, "-m", "src.segment", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True) as running:
        while not (out / "masks" / "00020.png").is_file():
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(number)
        said, _ = running.communicate(timeout=60)
    assert running.returncode == code
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if "stopped by" in line]
    found = re.search(rf"stopped by {number.name} after (\d+) frames, which are in {re.escape(str(out))}$", line)
    assert found is not None
    written = len(list((out / "masks").glob("[0-9]*.png")))
    assert 20 < written < 3000
    # The signal may arrive between a frame's mask, its overlay and the count.
    assert written - 1 <= int(found[1]) <= written
    assert written - 1 <= sum(1 for _ in open_video(out / "overlay.mp4")) <= written
    assert {path.name for path in out.rglob(".*")} == {".keep.mp4", ".lock"}
