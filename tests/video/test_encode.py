from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.video.clips import encode as encode_clip
from tests.video.clips import moving_square
from voslab.core import ConfigError, DataError, VideoError, WriteError
from voslab.video import open_video
from voslab.video.codec_reader import codec_frames
from voslab.video.encode import PINNED, Encoding, encode, encode_to_cache, transcode_to_cache

IMAGES = moving_square(14)


def images_in(folder: Path, images: np.ndarray = IMAGES) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = [folder / f"{index:05}.png" for index in range(len(images))]
    for file, image in zip(files, images, strict=True):
        assert cv2.imwrite(str(file), image[..., ::-1])
    return files


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    files = images_in(tmp_path / "images")
    assert cv2.imwrite(str(files[2]), np.zeros((50, 64, 3), np.uint8))
    with pytest.raises(DataError, match=r"00002\.png: is 50x64, the first image 48x64"):
        encode_to_cache(files, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.mp4"))


def types(path: Path) -> str:
    return "".join(p.codec.type for p in sorted(codec_frames(path), key=lambda p: p.index) if p.codec)


def test_encoded_frames_round_trip(tmp_path: Path) -> None:
    encode(iter(IMAGES), tmp_path / "new" / "a.mp4", Encoding(crf=4, rate=Fraction(30000, 1001)))
    video = open_video(tmp_path / "new" / "a.mp4")
    assert (video.count, video.size, video.rate) == (14, (48, 64), Fraction(30000, 1001))
    assert np.abs(np.stack([p.image for p in video]).astype(int) - IMAGES).mean(axis=(1, 2, 3)).max() < 3
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.mp4"]


def test_the_same_settings_give_the_same_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    ground = cv2.resize(
        random.integers(0, 256, (40, 60, 3)).astype(np.uint8), (600, 400), interpolation=cv2.INTER_CUBIC
    )
    images = np.stack([ground[3 * t : 3 * t + 192, 5 * t : 5 * t + 320] for t in range(12)])
    images = cv2.add(images.reshape(-1, 320, 3), random.integers(0, 9, (12 * 192, 320, 3)).astype(np.uint8))
    for index in range(4):
        encode(images.reshape(12, 192, 320, 3).astype(np.uint8), tmp_path / f"{index}.mp4", Encoding(refs=3))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_settings_reach_the_encoder(tmp_path: Path) -> None:
    def typed(settings: Encoding) -> str:
        encode(IMAGES, tmp_path / "a.mp4", settings)
        return types(tmp_path / "a.mp4")

    assert typed(Encoding(bframes=0)) == "I" + 13 * "P"
    assert typed(Encoding(bframes=3, b_adapt=0)).startswith("IBBBPBBBP")
    assert typed(Encoding(bframes=0, keyint=5, scenecut=0, more="min-keyint=5")) == "IPPPPIPPPPIPPP"
    encode(IMAGES, tmp_path / "good.mp4", Encoding(crf=5))
    encode(IMAGES, tmp_path / "bad.mp4", Encoding(crf=40, preset="ultrafast"))
    assert (tmp_path / "good.mp4").stat().st_size > 1.5 * (tmp_path / "bad.mp4").stat().st_size


def test_pinned_references_follow_from_direction(tmp_path: Path) -> None:
    encode(IMAGES, tmp_path / "a.mp4", PINNED)
    frames = sorted(codec_frames(tmp_path / "a.mp4"), key=lambda p: p.index)
    keys = [p.index for p in frames if p.codec and p.codec.type != "B"]
    for frame in frames:
        assert frame.codec is not None
        assert frame.codec.references is not None
        past, future = (set(field.unique().tolist()) - {-1} for field in frame.codec.references[0])
        assert past <= set([key for key in keys if key < frame.index][-1:])
        assert future <= (set([key for key in keys if key > frame.index][:1]) if frame.codec.type == "B" else set())


@pytest.mark.parametrize("size", [(1, 1), (17, 31), (33, 64), (32, 65)])
def test_odd_sizes_are_padded_and_cropped_again(tmp_path: Path, size: tuple[int, int]) -> None:
    ramp = np.linspace(30, 200, size[0])[:, None] * 0.5 + np.linspace(30, 200, size[1])[None] * 0.5
    images = np.repeat(np.repeat(ramp.astype(np.uint8)[None, ..., None], 3, 3), 3, 0)
    encode(images, tmp_path / "a.mp4")
    height, width = size
    assert open_video(tmp_path / "a.mp4").size == (height + height % 2, width + width % 2)
    for frame in codec_frames(tmp_path / "a.mp4", size=size):
        assert np.abs(frame.image.astype(int) - images[0]).max() < 12
        assert frame.codec is not None
        assert frame.codec.motion is not None
        assert frame.codec.motion.shape[-2:] == size


@pytest.mark.parametrize(
    "wrong",
    [
        *({"preset": "quick"}, {"crf": 60}, {"bframes": 17}, {"refs": 0}, {"b_pyramid": "high"}, {"weightp": 3}),
        *({"direct": "no"}, {"b_adapt": 4}, {"rate": 0}),
    ],
)
def test_unknown_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=f"x264 knows no .*{next(iter(wrong))}"):
        Encoding(**wrong)


@pytest.mark.parametrize("more", ["dump-yuv=a.yuv", "me=hex:stats=a", "me=hex: dump_yuv=a"])
def test_settings_cannot_name_files(more: str) -> None:
    with pytest.raises(ConfigError, match=r"^more: (dump-yuv|stats) is not allowed, because it names a file"):
        Encoding(more=more)


def test_invalid_frames_keep_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("old")
    with pytest.raises(WriteError, match=r"a\.mp4: frame 1 has shape \(48, 63, 3\), not \(48, 64, 3\)"):
        encode([IMAGES[0], IMAGES[0][:, 1:]], tmp_path / "a.mp4")
    with pytest.raises(WriteError, match=r"a\.mp4: no frame was written"):
        encode([], tmp_path / "a.mp4")
    files = images_in(tmp_path / "frames")
    files[5].write_bytes(b"no image")
    with pytest.raises(DataError, match=r"00005\.png"):
        encode_to_cache(files, tmp_path / "cache")
    assert (tmp_path / "a.mp4").read_text() == "old"
    assert not list((tmp_path / "cache").iterdir())


def test_the_cache_is_keyed_by_sources_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, cache = images_in(tmp_path / "frames"), tmp_path / "cache"
    first = encode_to_cache(files, cache)
    others = [
        encode_to_cache(files, cache, Encoding(crf=30)),
        encode_to_cache(files, cache, Encoding(rate=30)),
        encode_to_cache(files[:9], cache),
    ]
    os.utime(files[3], ns=(1, 1))
    others.append(encode_to_cache(files, cache))
    files[4].write_bytes(files[0].read_bytes())
    others.append(encode_to_cache(files, cache))
    assert len({first, *others}) == 6
    assert sorted(cache.iterdir()) == sorted({first, *others})
    monkeypatch.setattr("voslab.video.encode.encode", None)
    assert encode_to_cache(files, cache) == others[-1]


def test_folders_and_video_files_are_sources(tmp_path: Path) -> None:
    images_in(tmp_path / "frames")
    clip = encode_clip(tmp_path / "clip.webm", IMAGES[:5], "libvpx-vp9", **{"cpu-used": "8"})
    for source, count, rate in ((tmp_path / "frames", 14, 24), (clip, 5, 25)):
        video = open_video(encode_to_cache(open_video(source), tmp_path / "cache"))
        assert (video.count, video.rate) == (count, rate)
    assert len(types(transcode_to_cache(clip, tmp_path / "cache"))) == 5
    with pytest.raises(VideoError, match="no image files"):
        encode_to_cache([], tmp_path)
    with pytest.raises(VideoError, match=r"gone\.png: cannot be read"):
        encode_to_cache([tmp_path / "gone.png"], tmp_path)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files of more than 20 kB cannot be written."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_disk")
def test_full_disk_leaves_no_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 256, 256, 3)).astype(np.uint8)
    with pytest.raises(WriteError, match=r"a\.mp4: the video cannot be written \(File too large\)"):
        encode(noise, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())
