"""Tests of pairs of videos and masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.video.clips import encode, moving_square
from voslab.cli.video_pairs import VideoPair, find_pairs, has_many_videos, video_length
from voslab.core import DataError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("names", "many"),
    [
        (["clip.mp4"], True),
        (["CLIP.MOV", "notes.txt"], True),
        (["a/0.jpg", "b/0.jpg"], True),
        (["0.jpg", "1.jpg"], False),
        (["0.jpg", "clip.mp4", "a/0.jpg"], False),
        (["notes.txt", "a/notes.txt", ".clip.mp4"], False),
        ([], False),
    ],
)
def test_a_folder_with_images_is_one_video(names: list[str], many: bool, tmp_path: Path) -> None:
    assert has_many_videos(touch(tmp_path, *names)) is many
    for name in names:
        assert not has_many_videos(tmp_path / name)


def test_videos_and_masks_are_paired_by_name(tmp_path: Path) -> None:
    videos = touch(tmp_path / "videos", "b.mp4", "a.v2.mkv", "frames/0.jpg", "alone.mp4", "notes.txt", ".hidden.mp4")
    masks = touch(tmp_path / "masks", "b.png", "a.v2.json", "frames/0.png", "extra.png", "readme.md")
    found = find_pairs(videos, masks)
    assert found.pairs == (
        VideoPair("a.v2", videos / "a.v2.mkv", masks / "a.v2.json"),
        VideoPair("b", videos / "b.mp4", masks / "b.png"),
        VideoPair("frames", videos / "frames", masks / "frames"),
    )
    assert (found.videos, found.masks) == ((videos / "alone.mp4",), (masks / "extra.png",))


def test_masks_may_be_next_to_folders_of_images_and_videos(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a.mp4", "a.txt", "b/0.jpg", "b.json")
    assert [pair.name for pair in find_pairs(folder, folder).pairs] == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["videos/a.mp4", "videos/a.mov", "masks/a.png"], r"a\.mp4: has the same name as a\.mov; keep one"),
        (["videos/a.mp4", "masks/a.png", "masks/a/0.png"], r"masks/a\.png: has the same name as a; keep one"),
        (["videos/a.mp4", "masks/b.png"], r"masks: no mask has the name of a video, such as a\.png or a/ for "),
        (["videos/a.mp4", "masks"], r"masks: not a folder; many videos need mask=FOLDER"),
        (["videos/a.mp4"], r"masks: not a folder"),
    ],
)
def test_ambiguous_or_missing_masks_are_refused(names: list[str], message: str, tmp_path: Path) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=message):
        find_pairs(tmp_path / "videos", tmp_path / "masks")


def test_lengths_are_frames_and_unreadable_videos_have_none(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mp4", moving_square(7))
    assert video_length(clip) == 7
    assert video_length(touch(tmp_path, "frames/0.jpg", "frames/1.jpg") / "frames") == 2
    assert video_length(touch(tmp_path, "bad.mp4") / "bad.mp4") == 0
