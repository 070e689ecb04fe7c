from __future__ import annotations

import logging
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.data.tree import labels, save_mask
from voslab.core import DataError, VideoError, WriteError
from voslab.data import frame_cache as cache_room
from voslab.data.sources.folder import folder
from voslab.video import VideoWriter, open_video


def film(path: Path, frames: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, Fraction(10), (24, 40)) as writer:
        for t in range(frames):
            writer.write(np.full((24, 40, 3), 20 * t, np.uint8))
    return path


def test_video_files_are_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root, cache = tmp_path / "own", tmp_path / "cache"
    path = film(root / "videos/a b.mp4")
    film(root / "videos/unmasked.mov")
    save_mask(root / "masks/a b/00002.png", labels(2))
    save_mask(root / "masks/a b/4.png", labels(4))
    with caplog.at_level(logging.INFO):
        (first,) = folder(root, cache=cache)
    assert "a b.mp4: decoding into" in caplog.text
    assert "unmasked.mov: left out, it has no masks" in caplog.text
    assert (first.name, len(first)) == ("a b", 6)
    assert [index for index, mask in enumerate(first.masks) if mask is not None] == [2, 4]
    for frame, index in zip(open_video(path), range(6), strict=True):
        np.testing.assert_array_equal(first.image(index), frame.image)
    assert len(list(cache.iterdir())) == 1

    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(cache_room, "open_video", refuse)
        assert folder(root, cache=cache) == (first,)
    # Another file under the same name is another video.
    film(path, frames=7)
    assert len(folder(root, cache=cache)[0]) == 7


def test_interrupted_decoding_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film(tmp_path / "videos/cut.mp4", frames=12)
    save_mask(tmp_path / "masks/cut/0.png", labels(0))
    cache = tmp_path / "cache"

    def broken(path: Path) -> object:
        yield from list(open_video(path))[:3]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache_room, "open_video", broken)
        with pytest.raises(KeyboardInterrupt):
            folder(tmp_path, cache=cache)
    assert list(cache.iterdir()) == []
    assert len(folder(tmp_path, cache=cache)[0]) == 12


def test_a_process_that_finishes_second_uses_the_existing_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(tmp_path / "videos/shared.mp4")
    save_mask(tmp_path / "masks/shared/0.png", labels(0))
    cache = tmp_path / "cache"

    def slowly(path: Path) -> object:
        monkeypatch.undo()
        folder(tmp_path, cache=cache)
        yield from open_video(path)

    monkeypatch.setattr(cache_room, "open_video", slowly)
    assert len(folder(tmp_path, cache=cache)[0]) == 6
    assert len(list(cache.iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="needs a file where a folder should be")
def test_invalid_video_files_are_reported(tmp_path: Path) -> None:
    path = film(tmp_path / "videos/cut.mp4")
    save_mask(tmp_path / "masks/cut/0.png", labels(0))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WriteError, match=r"frames of .*cut\.mp4 cannot be written"):
        folder(tmp_path, cache=tmp_path / "file")
    save_mask(tmp_path / "masks/cut/6.png", labels(0))
    with pytest.raises(DataError, match=r"masks/cut/6\.png: .*cut\.mp4 has no frame of that name .*00000 to 00005"):
        folder(tmp_path, cache=tmp_path / "cache")
    (tmp_path / "masks/cut/6.png").rename(tmp_path / "masks/cut/00000.png")
    with pytest.raises(DataError, match=r"a second mask for the same frame, besides 0+\.png"):
        folder(tmp_path, cache=tmp_path / "cache")
    path.write_bytes(b"no video")
    with pytest.raises(VideoError, match=r"cut\.mp4: not a video"):
        folder(tmp_path, cache=tmp_path / "cache")
