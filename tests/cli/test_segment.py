"""`python -m src.segment`: the first mask is written while the video is still being decoded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Run
from tests.test_hostile import IMAGES, mask
from tests.video.clips import encode
from voslab.core import RawFrame
from voslab.video import Video, open_video


def test_masks_are_written_while_decoding_and_frames_are_decoded_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, first = encode(tmp_path / "clip.mp4", IMAGES), tmp_path / "out" / "masks" / "00000.png"
    decoded: Counter[int] = Counter()

    def opened(path: Path) -> Video:
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

    monkeypatch.setattr("voslab.cli.segment.open_video", opened)
    given = mask(tmp_path / "m.png")
    assert not run("segment", f"video={clip}", f"mask={given}", "model=copy_first", f"output={tmp_path}/out")
    assert decoded == dict.fromkeys(range(len(IMAGES)), 1)
