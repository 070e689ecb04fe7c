from __future__ import annotations

import re
import weakref
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.video.clips import encode, moving_square
from voslab.core import DataError, VideoError
from voslab.video import open_video

IMAGES = moving_square()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("reader") / "clip.mp4", IMAGES, muxer={"movflags": "faststart"})


def folder_of(folder: Path, names: list[str], images: np.ndarray = IMAGES) -> Path:
    folder.mkdir(exist_ok=True)
    for name, image in zip(names, images, strict=False):
        assert cv2.imwrite(str(folder / name), image[..., ::-1])
    return folder


def test_video_file_round_trip(clip: Path) -> None:
    video = open_video(str(clip))
    assert (video.path, video.size, video.rate) == (clip, (48, 64), Fraction(25))
    assert (video.count, video.names) == (12, None)
    for _ in range(2):
        frames = list(video)
        assert [p.index for p in frames] == list(range(12))
        assert all(p.codec is None and p.image.dtype == np.uint8 for p in frames)
        errors = np.array([[np.abs(p.image.astype(int) - image).mean() for image in IMAGES] for p in frames])
        assert errors.argmin(axis=1).tolist() == list(range(12))
        assert errors.min(axis=1).max() < 3


def test_iterations_are_independent_and_lazy(clip: Path) -> None:
    video = open_video(clip)
    one, other = iter(video), iter(video)
    prefetch_map = [next(one) for _ in range(3)]
    assert np.array_equal(next(other).image, prefetch_map[0].image)
    assert next(one).index == 3


def test_frames_are_released(tmp_path: Path) -> None:
    live_refs: list[weakref.ref] = []
    peak = 0
    for frame in open_video(encode(tmp_path / "long.mp4", moving_square(200, (16, 32)))):
        live_refs = [ref for ref in [*live_refs, weakref.ref(frame.image)] if ref() is not None]
        peak = max(peak, len(live_refs))
    assert peak <= 3


def test_size_is_that_of_the_upright_image(tmp_path: Path) -> None:
    assert open_video(encode(tmp_path / "a.mp4", IMAGES[:2], turn=(90, False))).size == (64, 48)


def test_variable_frame_rate_counts_frames_not_seconds(tmp_path: Path) -> None:
    times = [0, 1, 2, 10, 11, 30, 31, 32, 50, 51, 52, 53]
    video = open_video(encode(tmp_path / "vfr.mp4", IMAGES, times=times))
    frames = list(video)
    assert [p.index for p in frames] == list(range(12))
    assert 0 < video.rate < 25
    assert np.abs(np.stack([p.image for p in frames]).astype(int) - IMAGES).mean() < 3


@pytest.mark.parametrize("size", [(1, 1), (17, 31), (47, 65)])
def test_odd_sizes_stay_odd(tmp_path: Path, size: tuple[int, int]) -> None:
    images = np.full((3, *size, 3), (90, 120, 60), np.uint8)
    video = open_video(encode(tmp_path / "odd.mkv", images, "ffv1", pixels="yuv444p"))
    assert video.size == size
    assert [np.abs(p.image.astype(int) - images[0]).max() <= 3 for p in video] == [True] * 3


def test_real_files_have_every_frame(vos_data: Path) -> None:
    for path in sorted((vos_data / "videos").glob("*.mp4")):
        with av.open(str(path)) as container:
            times = [frame.pts for frame in container.decode(video=0)]
        video = open_video(path)
        assert times == sorted(times)
        assert sum(1 for _ in video) == len(times) == video.count
        assert Fraction(25) <= video.rate <= 30


def test_missing_frames_are_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = encode(tmp_path / "cut.mp4", IMAGES, muxer={"movflags": "faststart"}, bf="0")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: packets[8].pos])
    video = open_video(path)
    assert [len(list(video)) for _ in range(2)] == [8, 8]
    assert caplog.messages == [f"{path}: only 8 of 12 frames could be decoded"]


def test_concealed_frames_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = encode(tmp_path / "flipped.mp4", moving_square(20, (96, 128)))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for at in range(20, packets[5].size, 7):
        content[packets[5].pos + at] ^= 16
    path.write_bytes(content)
    video = open_video(path)
    assert [len(list(video)) for _ in range(2)] == [20, 20]
    [message] = caplog.messages
    assert re.fullmatch(
        rf"{path}: damaged, parts of \d+ of 20 frames are guesses \(the first is frame \d+\)", message
    ), message


def test_intact_files_do_not_warn(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert len(list(open_video(clip))) == 12
    assert not caplog.messages


def test_frames_before_the_damage_are_yielded(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", IMAGES, "ffv1", pixels="bgr0", slicecrc="1")
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    at = content.index(packets[7])
    content[at : at + len(packets[7])] = b"\xff" * len(packets[7])
    path.write_bytes(content)
    seen: list[int] = []
    with pytest.raises(VideoError, match=rf"{path}: damaged, frame 7 cannot be decoded"):
        seen.extend(frame.index for frame in open_video(path))
    assert seen == list(range(7))


def test_a_frame_that_cannot_be_converted_is_named(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(frame: av.VideoFrame, reformatter: object) -> np.ndarray:
        raise MemoryError("no memory")

    monkeypatch.setattr("voslab.video.reader.to_image", refuse)
    with pytest.raises(VideoError, match=r"clip\.mp4: damaged, frame 0 cannot be decoded \(no memory\)"):
        open_video(clip)


def test_a_change_of_size_is_an_error(tmp_path: Path) -> None:
    small, large = (encode(tmp_path / f"{n}.h264", moving_square(4, (n, n)), bf="0") for n in (32, 64))
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    seen: list[int] = []
    with pytest.raises(VideoError, match=r"both\.h264: frame 4 is 64 x 64, the frames before are 32 x 32"):
        seen.extend(frame.index for frame in open_video(path))
    assert seen == [0, 1, 2, 3]


def test_invalid_paths_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"gone\.mp4: no such file"):
        open_video(tmp_path / "gone.mp4")
    with pytest.raises(DataError, match="no image in this folder"):
        open_video(tmp_path)
    (tmp_path / "a.mp4").write_text("not a video")
    with pytest.raises(VideoError, match=r"a\.mp4: not a video"):
        open_video(tmp_path / "a.mp4")


def test_folder_of_images_is_a_video(tmp_path: Path) -> None:
    names = ["10.PNG", "2.png", "1.bmp", "33.tiff"]
    video = open_video(folder_of(tmp_path / "frames", names))
    assert (video.size, video.rate, video.count) == ((48, 64), Fraction(24), 4)
    assert video.names == ("1", "2", "10", "33")
    for _ in range(2):
        frames = list(video)
        assert [p.index for p in frames] == [0, 1, 2, 3]
        assert all(np.array_equal(p.image, IMAGES[k]) for p, k in zip(frames, (2, 1, 0, 3), strict=True))


def test_the_first_image_of_another_size_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "frames", ["0.png", "1.png"])
    folder_of(folder, ["2.png", "3.png"], moving_square(2, (48, 63)))
    seen: list[int] = []
    with pytest.raises(DataError, match=r"2\.png: the image is 63 x 48, the ones before are 64 x 48"):
        seen.extend(frame.index for frame in open_video(folder))
    assert seen == [0, 1]


def test_damaged_image_is_an_error_after_earlier_images(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "frames", ["0.png", "1.png", "2.png"])
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:200])
    seen: list[int] = []
    with pytest.raises(DataError, match=r"1\.png: "):
        seen.extend(frame.index for frame in open_video(folder))
    assert seen == [0]
