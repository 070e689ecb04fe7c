from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.core import Picture, VideoError
from src.video import open_video
from src.video.accesses import NoVectorsError
from src.video.coded import coded_pictures, with_vectors
from src.video.encode import Encoding
from tests.video.clips import encode, moving_square, remux
from tests.video.test_coded import PAN, fields, stream


@pytest.mark.parametrize(
    ("name", "suffix"), [("default", "mkv"), ("default", "ts"), ("open", "h264"), ("strict", "mov")]
)
def test_containers_change_nothing(tmp_path: Path, name: str, suffix: str) -> None:
    path = stream(tmp_path, name)
    copy = remux(path, tmp_path / f"copy.{suffix}")
    for one, other in zip(coded_pictures(path), coded_pictures(copy), strict=True):
        assert one.index == other.index
        assert all(torch.equal(a, b) for a, b in zip(fields(one), fields(other), strict=True))


def refused(folder: Path) -> dict[str, Path]:
    x264 = {"x264-params": "interlaced=1"}
    whole = encode(folder / "whole.mp4", PAN, bf="0", g="3")
    return {
        "gives no motion vectors": encode(folder / "a.webm", PAN[:4], "libvpx-vp9", **{"cpu-used": "8"}),
        "B-frames in MPEG-4": encode(folder / "b.avi", PAN, "mpeg4", bf="2"),
        "interlaced": encode(folder / "c.mp4", PAN, **x264),
        "turned": encode(folder / "d.mp4", PAN, turn=(90, False)),
        "8-bit YUV": encode(folder / "e.mp4", PAN, pixels="yuv420p10le"),
        "edit list": remux(whole, folder / "f.mp4", shift=5),
    }


def test_what_has_no_vectors_is_refused_and_transcoded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for reason, path in refused(tmp_path).items():
        with pytest.raises(NoVectorsError, match=rf"{path.name}: .*{reason}") as caught:
            list(coded_pictures(path))
        assert "\n" not in str(caught.value)
        caplog.clear()
        found = with_vectors(path, tmp_path / "cache", Encoding(crf=8))
        assert path.name in caplog.text
        plain, pictures = list(open_video(path)), list(coded_pictures(found))
        assert sorted(p.index for p in pictures) == list(range(len(plain)))
        shown = np.stack([p.image for p in plain]).astype(int)
        for picture in pictures:
            assert picture.image.shape == shown.shape[1:]
            assert np.abs(shown - picture.image).mean(axis=(1, 2, 3)).argmin() == picture.index


def test_bad_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    for name, reason in (("a.mp4", "not a video"), ("gone.mp4", "no such file")):
        for read in (lambda path: list(coded_pictures(path)), lambda path: with_vectors(path, tmp_path)):
            with pytest.raises(VideoError, match=reason):
                read(tmp_path / name)


def test_a_change_of_size_is_an_error(tmp_path: Path) -> None:
    small, large = (encode(tmp_path / f"{n}.h264", moving_square(4, (n, n)), bf="0") for n in (32, 64))
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    seen: list[int] = []
    with pytest.raises(VideoError, match=r"both\.h264: frame 4 is 64 x 64, the frames before are 32 x 32"):
        seen.extend(picture.index for picture in coded_pictures(path))
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_a_truncated_file_is_an_error_behind_what_is_left(tmp_path: Path, share: float) -> None:
    path = encode(tmp_path / "a.mp4", PAN, crf="10", muxer={"movflags": "faststart"})
    whole = list(coded_pictures(path))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    seen: list[Picture] = []
    with pytest.raises(VideoError, match=rf"{path}: ") as caught:
        seen.extend(coded_pictures(path))
    assert "\n" not in str(caught.value)
    assert len(seen) < len(whole)
    for one, other in zip(seen, whole, strict=False):
        assert one.index == other.index
    for one, other in zip(seen[:-1], whole, strict=False):
        assert np.array_equal(one.image, other.image)


def test_a_lost_key_frame_at_the_start_is_survived(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", PAN, **{"x264-params": "keyint=6"})
    found = list(coded_pictures(remux(whole, tmp_path / "headless.mkv", skip=1)))
    assert 0 < len(found) < len(PAN)
    seen: set[int] = set()
    for picture in found:
        assert set(torch.unique(fields(picture)[1]).tolist()) <= seen | {-1}
        seen.add(picture.index)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stream(tmp_path_factory.mktemp("coded"), "default")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_flipped_bits_give_pictures_or_a_video_error(
    clip: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(clip.read_bytes())
    for place, bits in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(1, 255)), min_size=1, max_size=6)
    ):
        content[place] ^= bits
    path = tmp_path_factory.getbasetemp() / "flipped.mp4"
    path.write_bytes(bytes(content))
    message = f"{path}: fine"
    seen: set[int] = set()
    try:
        for picture in coded_pictures(path):
            assert set(torch.unique(fields(picture)[1]).tolist()) <= seen | {-1}
            seen.add(picture.index)
    except VideoError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
