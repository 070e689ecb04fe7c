from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.video.clips import encode, moving_square, remux
from tests.video.test_codec_reader import PAN, fields, stream
from voslab.core import RawFrame, VideoError
from voslab.video import open_video
from voslab.video.codec_reader import codec_frames, ensure_motion_vectors
from voslab.video.encode import Encoding
from voslab.video.packets import NoVectorsError


@pytest.mark.parametrize(
    ("name", "suffix"), [("default", "mkv"), ("default", "ts"), ("open", "h264"), ("strict", "mov")]
)
def test_container_does_not_change_the_fields(tmp_path: Path, name: str, suffix: str) -> None:
    path = stream(tmp_path, name)
    copy = remux(path, tmp_path / f"copy.{suffix}")
    for one, other in zip(codec_frames(path), codec_frames(copy), strict=True):
        assert one.index == other.index
        assert all(torch.equal(a, b) for a, b in zip(fields(one), fields(other), strict=True))


def refused(folder: Path) -> dict[str, Path]:
    x264 = {"x264-params": "interlaced=1"}
    whole = encode(folder / "whole.mp4", PAN, bf="0", g="3")
    return {
        "gives no motion vectors": encode(folder / "a.webm", PAN[:4], "libvpx-vp9", **{"cpu-used": "8"}),
        "B-frames in MPEG-4": encode(folder / "b.avi", PAN, "mpeg4", bf="2"),
        "interlaced": encode(folder / "c.mp4", PAN, **x264),
        "rotated": encode(folder / "d.mp4", PAN, turn=(90, False)),
        "8-bit YUV": encode(folder / "e.mp4", PAN, pixels="yuv420p10le"),
        "edit list": remux(whole, folder / "f.mp4", shift=5),
        "cropped at the top or the left": encode(folder / "g.mp4", PAN, **{"x264-params": "crop-rect=8,2,0,0"}),
    }


def test_video_without_vectors_is_refused_and_transcoded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for reason, path in refused(tmp_path).items():
        with pytest.raises(NoVectorsError, match=rf"{path.name}: .*{reason}") as caught:
            list(codec_frames(path))
        assert "\n" not in str(caught.value)
        caplog.clear()
        found = ensure_motion_vectors(path, tmp_path / "cache", Encoding(crf=8))
        assert path.name in caplog.text
        plain, frames = list(open_video(path)), list(codec_frames(found))
        assert sorted(p.index for p in frames) == list(range(len(plain)))
        shown = np.stack([p.image for p in plain]).astype(int)
        for frame in frames:
            assert frame.image.shape == shown.shape[1:]
            assert np.abs(shown - frame.image).mean(axis=(1, 2, 3)).argmin() == frame.index


def test_ten_bits_from_some_frame_on_are_transcoded(tmp_path: Path) -> None:
    eight, ten = (
        encode(tmp_path / f"{pixels}.h264", PAN[:6], bf="0", pixels=pixels) for pixels in ("yuv420p", "yuv420p10le")
    )
    path = tmp_path / "both.h264"
    path.write_bytes(eight.read_bytes() + ten.read_bytes())
    found = ensure_motion_vectors(path, tmp_path / "cache")
    assert found != path
    assert len(list(codec_frames(found))) == 12


def test_bad_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    for name, reason in (("a.mp4", "not a video"), ("gone.mp4", "no such file")):
        for read in (lambda path: list(codec_frames(path)), lambda path: ensure_motion_vectors(path, tmp_path)):
            with pytest.raises(VideoError, match=reason):
                read(tmp_path / name)


def test_a_change_of_size_is_an_error(tmp_path: Path) -> None:
    small, large = (encode(tmp_path / f"{n}.h264", moving_square(4, (n, n)), bf="0") for n in (32, 64))
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    seen: list[int] = []
    with pytest.raises(VideoError, match=r"both\.h264: frame 4 is 64 x 64, the frames before are 32 x 32"):
        seen.extend(frame.index for frame in codec_frames(path))
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_truncated_file_is_an_error_after_the_remaining_frames(tmp_path: Path, share: float) -> None:
    path = encode(tmp_path / "a.mp4", PAN, crf="10", muxer={"movflags": "faststart"})
    whole = list(codec_frames(path))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    seen: list[RawFrame] = []
    with pytest.raises(VideoError, match=rf"{path}: ") as caught:
        seen.extend(codec_frames(path))
    assert "\n" not in str(caught.value)
    assert len(seen) < len(whole)
    for one, other in zip(seen, whole, strict=False):
        assert one.index == other.index
    for one, other in zip(seen[:-1], whole, strict=False):
        assert np.array_equal(one.image, other.image)


def test_missing_frames_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = encode(tmp_path / "cut.mp4", PAN, muxer={"movflags": "faststart"}, bf="0")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: packets[8].pos])
    with pytest.raises(VideoError, match=rf"cut\.mp4: damaged, only 8 of {len(PAN)} frames are there"):
        list(codec_frames(path))
    assert not caplog.messages
    # All packets are there, but nothing can be made of the first.
    whole = encode(tmp_path / "whole.mp4", PAN, **{"x264-params": "keyint=6"})
    headless = remux(whole, tmp_path / "headless.mp4", skip=1)
    for read in (open_video, codec_frames):
        caplog.clear()
        count = sum(1 for _ in read(headless))
        assert caplog.messages == [f"{headless}: only {count} of {len(PAN) - 1} frames could be decoded"]


@pytest.mark.parametrize("read", [open_video, codec_frames])
def test_missing_frames_are_detected_by_duration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, read: Callable[[Path], Iterable[RawFrame]]
) -> None:
    path = encode(tmp_path / "a.mkv", PAN, bf="0")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert sum(1 for _ in read(path)) == len(PAN)
    assert not caplog.messages
    path.write_bytes(path.read_bytes()[: packets[6].pos])
    count = sum(1 for _ in read(path))
    said = f"{path}: only {count} frames could be decoded, up to {(count - 1) / 25:.2f} s of {len(PAN) / 25:.2f} s"
    assert caplog.messages == [said]


@pytest.mark.parametrize("read", [open_video, codec_frames])
@pytest.mark.parametrize("suffix", ["avi", "mkv", "mp4"])
def test_frames_with_long_durations_are_not_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, read: Callable[[Path], Iterable[RawFrame]]
) -> None:
    times = [*range(0, 3 * len(PAN) - 3, 3), 3 * len(PAN) + 2]
    path = encode(tmp_path / f"slow.{suffix}", PAN, bf="0", times=times)
    assert sum(1 for _ in read(path)) == len(PAN)
    assert not caplog.messages


@pytest.mark.parametrize(("bframes", "has_lost_reference"), [("0", 4), ("3", 1)])
def test_lost_reference_is_an_error(tmp_path: Path, bframes: str, has_lost_reference: int) -> None:
    options = f"bframes={bframes}:b-adapt=0:b-pyramid=normal:keyint=250"
    whole = encode(tmp_path / "whole.mp4", PAN, **{"x264-params": options})
    seen = list(codec_frames(whole))
    assert len(seen) == len(PAN)
    path = remux(whole, tmp_path / "lossy.mp4", drop=has_lost_reference)
    with pytest.raises(VideoError, match=r"lossy\.mp4: damaged, a reference of frame \d+ is missing"):
        list(codec_frames(path))


def test_lost_first_key_frame_is_tolerated(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", PAN, **{"x264-params": "keyint=6"})
    found = list(codec_frames(remux(whole, tmp_path / "headless.mkv", skip=1)))
    assert 0 < len(found) < len(PAN)
    seen: set[int] = set()
    for frame in found:
        assert set(torch.unique(fields(frame)[1]).tolist()) <= seen | {-1}
        seen.add(frame.index)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stream(tmp_path_factory.mktemp("coded"), "default")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_flipped_bits_give_frames_or_a_video_error(
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
        for frame in codec_frames(path):
            assert set(torch.unique(fields(frame)[1]).tolist()) <= seen | {-1}
            seen.add(frame.index)
    except VideoError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
