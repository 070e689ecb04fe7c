from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.video.clips import encode, moving_square, remux
from voslab.core import VideoError
from voslab.video.decode import BOUNDS, decoded_frames, read_header, to_image

IMAGES = moving_square()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("decode") / "clip.mp4", IMAGES)


def decode(path: Path) -> np.ndarray:
    reformatter = VideoReformatter()
    return np.stack([to_image(frame, reformatter) for frame in decoded_frames(path)])


def first(path: Path) -> np.ndarray:
    return to_image(next(decoded_frames(path)), VideoReformatter())


def test_b_frames_come_in_presentation_order(clip: Path) -> None:
    kinds = [av.video.frame.PictureType(frame.pict_type).name for frame in decoded_frames(clip)]
    assert kinds.count("B") >= 4
    assert np.abs(decode(clip).astype(int) - IMAGES).mean(axis=(1, 2, 3)).max() < 3


def test_decoder_options_reach_the_decoder(clip: Path) -> None:
    assert any("MOTION_VECTORS" in frame.side_data for frame in decoded_frames(clip, flags2="+export_mvs"))
    assert not any("MOTION_VECTORS" in frame.side_data for frame in decoded_frames(clip))


TURNS = {
    (90, False): np.rot90,
    (-90, False): lambda a: np.rot90(a, -1),
    (180, False): lambda a: np.rot90(a, 2),
    (0, False): lambda a: a,
    (0, True): np.fliplr,
    (180, True): np.flipud,
    (90, True): lambda a: np.rot90(a, 2).swapaxes(0, 1),
}


@pytest.mark.parametrize("turn", TURNS)
def test_rotation_metadata_is_applied(tmp_path: Path, turn: tuple[int, bool]) -> None:
    path = encode(tmp_path / "turned.mp4", IMAGES[:1], turn=turn)
    frame = next(decoded_frames(path))
    shown = to_image(frame, VideoReformatter())
    assert frame.rotation % 360 == {(180, True): 0, (0, True): 180}.get(turn, turn[0] % 360)
    assert shown.flags.c_contiguous
    expected = TURNS[turn](IMAGES[0])
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("space", [None, (1, 1), (1, 2), (5, 1), (5, 2)])
def test_colour_space_range_and_depth_are_converted(tmp_path: Path, pixels: str, space: tuple[int, int] | None) -> None:
    flat = np.full((1, 32, 32, 3), (200, 60, 30), np.uint8)
    image = first(encode(tmp_path / "flat.mp4", flat, pixels=pixels, space=space))
    assert np.abs(image.astype(int) - flat[0]).max() <= 4


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mov", "libx264"), ("a.MKV", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9"), ("a.h264", "libx264")],
)
def test_common_containers_and_codecs(tmp_path: Path, name: str, codec: str) -> None:
    images = decode(encode(tmp_path / name, IMAGES, codec, **({"qscale": "2"} if codec == "mpeg4" else {})))
    assert images.shape == IMAGES.shape
    errors = np.abs(images[:, None].astype(int) - IMAGES[None]).mean(axis=(2, 3, 4))
    assert errors.argmin(axis=1).tolist() == list(range(len(IMAGES)))


def test_frames_hidden_by_an_edit_list_are_not_missing(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", IMAGES, bf="0", g="3")
    cut = remux(whole, tmp_path / "cut.mp4", shift=3)
    assert len(decode(cut)) == read_header(cut).declared_frames == len(IMAGES) - 3
    assert np.abs(decode(cut).astype(int) - IMAGES[3:]).mean() < 3


def test_late_start_and_lost_key_frame_are_tolerated(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", IMAGES, g="4")
    assert len(decode(remux(whole, tmp_path / "late.mp4", shift=-7))) == len(IMAGES)
    assert 0 < len(decode(remux(whole, tmp_path / "headless.mkv", skip=1))) < len(IMAGES)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a.m3u8", "a.png", "a.avi"])
@pytest.mark.parametrize(
    "content", [b"", b"hi", b"ffconcat version 1.0\nfile clip.mp4\n", b"#EXTM3U\n#EXTINF:9,\nclip.mp4\n", b"\0" * 9999]
)
def test_other_files_are_refused(tmp_path: Path, clip: Path, name: str, content: bytes) -> None:
    write(tmp_path / "clip.mp4", clip.read_bytes())
    with pytest.raises(VideoError, match=rf"{name}: not a video"):
        list(decoded_frames(write(tmp_path / name, content)))


def test_huge_frames_are_refused(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BOUNDS, "max_pixels", str(IMAGES.shape[1] * IMAGES.shape[2] - 1))
    with pytest.raises(VideoError, match=r"damaged, frame 0 cannot be decoded"):
        list(decoded_frames(clip))


def test_still_images_and_audio_are_refused(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), IMAGES[0])
    with pytest.raises(VideoError, match=r"a\.png: not a video"):
        read_header(tmp_path / "a.png")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"a\.mp4: no video stream"):
        read_header(tmp_path / "a.mp4")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"gone\.mp4: no such file"):
        read_header(tmp_path / "gone.mp4")
    with pytest.raises(VideoError, match="not a file"):
        read_header(tmp_path)


@pytest.mark.parametrize("name", ["a: b.mp4", "http:x.mp4", 'it\'s "quoted" ünï – 猫.mp4', "x" * 196 + ".mp4"])
def test_file_names_are_not_parsed_as_protocols(tmp_path: Path, clip: Path, name: str) -> None:
    assert len(decode(write(tmp_path / name, clip.read_bytes()))) == len(IMAGES)


@pytest.mark.parametrize("front", [True, False], ids=["index-in-front", "index-at-the-end"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99])
def test_truncated_file_yields_a_prefix_or_an_error(tmp_path: Path, front: bool, share: float) -> None:
    path = encode(tmp_path / "cut.mp4", IMAGES, muxer={"movflags": "faststart"} if front else None, bf="0")
    content = path.read_bytes()
    write(path, content[: int(share * len(content))])
    seen: list[np.ndarray] = []
    try:
        seen += [to_image(frame, VideoReformatter()) for frame in decoded_frames(path)]
        assert front or share > 0.98
    except VideoError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
    assert len(seen) < len(IMAGES) or share > 0.98
    for image, expected in zip(seen[:-1], IMAGES, strict=False):
        assert np.abs(image.astype(int) - expected).mean() < 3


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flipped_bits_give_frames_or_a_video_error(
    clip: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(clip.read_bytes())
    header = content.index(b"moov") - 4
    places = st.one_of(st.integers(0, len(content) - 1), st.integers(header, len(content) - 1))
    for place, bits in data.draw(st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=12)):
        content[place] ^= bits
    path = write(tmp_path_factory.getbasetemp() / "flipped.mp4", bytes(content))
    message = f"{path}: fine"
    try:
        read_header(path)
        for frame in decoded_frames(path):
            to_image(frame, VideoReformatter())
    except VideoError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
