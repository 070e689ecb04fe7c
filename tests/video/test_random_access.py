from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.video.clips import encode, moving_square, remux
from tests.video.test_codec_reader import STREAMS, fields
from voslab.core import RawFrame, VideoError
from voslab.engine.codec_source import CodecSource
from voslab.video import open_video, random_access
from voslab.video.frame_index import KeyFrame
from voslab.video.random_access import FileAccess, in_reverse

IMAGES = moving_square(25, (48, 64))
FILES = {
    "one group.mp4": ("libx264", {}),
    "closed.mp4": ("libx264", {"x264-params": "keyint=6:bframes=2:b-adapt=0"}),
    "open.mp4": ("libx264", {"x264-params": "open-gop=1:keyint=6:bframes=2:b-adapt=0"}),
    "open.ts": ("libx264", {"x264-params": "open-gop=1:keyint=6:bframes=2:b-adapt=0"}),
    "closed.mkv": ("libx264", {"x264-params": "keyint=6:bframes=2:b-adapt=0"}),
    "without times.h264": ("libx264", {"x264-params": "keyint=6"}),
    "mpeg4.avi": ("mpeg4", {"g": "6", "bf": "0"}),
    "vp9.webm": ("libvpx-vp9", {"g": "6", "deadline": "realtime"}),
}


@pytest.mark.parametrize("memory", [1 << 28, 4 * IMAGES[0].nbytes])
@pytest.mark.parametrize("name", FILES)
def test_files_are_read_in_parts_and_in_reverse(
    tmp_path: Path, name: str, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_access, "MEMORY", memory)
    codec, options = FILES[name]
    video = open_video(encode(tmp_path / name, IMAGES, codec, **options))
    whole = [frame.image for frame in video]
    assert video.access.count == len(whole) == 25
    backward = list(video.access.backward(22))
    assert [frame.index for frame in backward] == list(range(22, -1, -1))
    assert all(np.array_equal(frame.image, whole[frame.index]) for frame in backward)
    for start in (0, 5, 6, 7, 24):
        part = list(video.access.between(start, start + 4))
        assert [frame.index for frame in part] == list(range(25))[start : start + 4]
        assert all(np.array_equal(frame.image, whole[frame.index]) for frame in part)


def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", IMAGES, **{"x264-params": "keyint=6:bframes=2:b-adapt=0"})
    video = open_video(remux(whole, tmp_path / "cut.mp4", shift=8))
    images = [frame.image for frame in video]
    assert video.access.count == len(images) == 17
    for start in (0, 6, 15):
        part = list(video.access.between(start, start + 2))
        assert [frame.index for frame in part] == [start, start + 1]
        assert all(np.array_equal(frame.image, images[frame.index]) for frame in part)


def test_key_frames_are_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "a.mp4", IMAGES, **{"x264-params": "keyint=6:min-keyint=6:scenecut=0"})
    access = FileAccess(path)
    assert [key.index for key in access.index.keys] == [0, 6, 12, 18, 24]
    decoded: list[int] = []
    convert = random_access.frames_between

    def counted(*arguments: object) -> object:
        for number, frame in convert(*arguments):  # type: ignore[arg-type]
            decoded.append(number)
            yield number, frame

    monkeypatch.setattr(random_access, "frames_between", counted)
    assert [frame.index for frame in access.backward(24)] == list(range(24, -1, -1))
    assert len(decoded) == 25, "every group was read once"


def test_a_file_that_is_not_sought_where_it_should_be_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", IMAGES, **{"x264-params": "keyint=6:min-keyint=6:scenecut=0"})
    whole = [frame.image for frame in open_video(path)]
    access = FileAccess(path)
    late = access.index.keys[3].seek
    vars(access)["index"] = replace(access.index, keys=(KeyFrame(0, None), KeyFrame(6, late)))
    for start in (6, 8, 20):
        part = list(FileAccess.between(access, start, start + 2))
        assert [frame.index for frame in part] == [start, start + 1]
        assert all(np.array_equal(frame.image, whole[frame.index]) for frame in part)


def test_a_file_of_key_frames_is_not_opened_for_each_frame(tmp_path: Path) -> None:
    access = FileAccess(encode(tmp_path / "a.mp4", IMAGES, **{"x264-params": "keyint=1"}))
    assert len(access.index.keys) == 25
    reads: list[tuple[int, int]] = []

    def read(start: int, stop: int) -> Iterator[RawFrame]:
        reads.append((start, stop))
        return access.between(start, stop)

    assert len(list(in_reverse(read, range(25), 24, "a"))) == 25
    assert reads == [(9, 25), (0, 9)]


def test_no_more_frames_than_fit_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_access, "MEMORY", 8 * 16 * 32 * 3)
    access = FileAccess(encode(tmp_path / "a.mp4", moving_square(100, (16, 32)), **{"x264-params": "keyint=20"}))
    live: list[weakref.ref[np.ndarray]] = []
    peak = 0

    def read(start: int, stop: int) -> Iterator[RawFrame]:
        nonlocal live, peak
        for frame in access.between(start, stop):
            live = [ref for ref in [*live, weakref.ref(frame.image)] if ref() is not None]
            peak = max(peak, len(live))
            yield frame

    for _ in in_reverse(read, [key.index for key in access.index.keys], 99, "a"):
        pass
    assert 8 <= peak <= 11


def test_times_are_those_of_the_stream(tmp_path: Path) -> None:
    times = [0, 1, 2, 10, 11, 30, 31, 32, 50, 51, 52, 53]
    access = open_video(encode(tmp_path / "vfr.mp4", IMAGES[:12], times=times)).access
    assert access.seconds == pytest.approx([time / 25 for time in times])


def test_a_missing_packet_is_an_error_that_names_the_group(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", IMAGES, **{"x264-params": "keyint=6:bframes=0"})
    damaged = remux(path, tmp_path / "b.mp4", drop=12)
    access = open_video(damaged).access
    with pytest.raises(VideoError, match=r"b\.mp4: "):
        list(access.backward(30))


def test_folders_and_animations_are_read_in_reverse(tmp_path: Path) -> None:
    images = [Image.fromarray(image) for image in IMAGES[:5]]
    (tmp_path / "frames").mkdir()
    for index, image in enumerate(images):
        image.save(tmp_path / "frames" / f"{index}.png")
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:], duration=100)
    for source in (tmp_path / "frames", tmp_path / "a.png"):
        access = open_video(source).access
        assert (access.count, access.seconds) == (5, None)
        found = list(access.backward(4))
        assert [frame.index for frame in found] == [4, 3, 2, 1, 0]
        assert all(np.array_equal(frame.image, IMAGES[frame.index]) for frame in found)


@pytest.mark.parametrize("memory", [1 << 28, 10 * IMAGES[0].nbytes])
@pytest.mark.parametrize("name", ["closed", "open", "pyramid", "default"])
def test_codec_data_are_the_same_in_reverse(
    tmp_path: Path, name: str, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_access, "MEMORY", memory)
    video = open_video(encode(tmp_path / "a.mp4", IMAGES, crf="10", **{"x264-params": STREAMS[name]}))
    source = CodecSource(tmp_path)
    forward = {frame.index: frame for frame in source.frames(video)}
    access = source.access(video)
    assert access.count == 25
    backward = list(access.backward(24))
    assert sorted(frame.index for frame in backward) == list(range(25))
    for frame in backward:
        assert np.array_equal(frame.image, forward[frame.index].image)
        assert all(torch.equal(*pair) for pair in zip(fields(frame), fields(forward[frame.index]), strict=True))
    anchors = [frame.index for frame in backward if frame.codec is not None and frame.codec.type != "B"]
    assert anchors == sorted(anchors, reverse=True)


def test_b_frames_follow_both_key_frames_around_them(tmp_path: Path) -> None:
    video = open_video(
        encode(tmp_path / "a.mp4", IMAGES, **{"x264-params": STREAMS["pinned"] + ":b-adapt=0:bframes=3"})
    )
    seen: set[int] = set()
    for frame in CodecSource(tmp_path).access(video).backward(24):
        codec = frame.codec
        assert codec is not None
        assert codec.references is not None
        if codec.type == "B":
            assert set(codec.references.unique().tolist()) - {-1} <= seen
        seen.add(frame.index)
    assert len(seen) == 25


def test_reading_starts_at_the_last_frame_that_no_later_one_refers_past(tmp_path: Path) -> None:
    source = CodecSource(tmp_path)
    for name, expected in (("closed", 12), ("open", 0)):
        path = encode(tmp_path / f"{name}.mp4", IMAGES, **{"x264-params": STREAMS[name] + ":min-keyint=6:scenecut=0"})
        access = source.access(open_video(path))
        frames = list(access.forward(15))
        assert frames[0].index == expected
        assert sorted(frame.index for frame in frames) == list(range(expected, 25))


def test_a_frame_that_is_missing_is_an_error() -> None:
    def read(start: int, stop: int) -> list[RawFrame]:
        return [RawFrame(index, IMAGES[0]) for index in range(start, stop) if index != 3]

    with pytest.raises(VideoError, match="clip: only 5 of the 6 frames from frame 0 on can be decoded"):
        list(in_reverse(lambda start, stop: iter(read(start, stop)), (0,), 5, "clip"))
