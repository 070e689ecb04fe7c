"""Tests of time stamps, audio and transparency of written videos."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.clips import encode, moving_square
from voslab.core import WriteError
from voslab.video import VideoWriter, open_video
from voslab.video.video_writer import H264, PRORES, VP9, VideoFormat

IMAGES = moving_square(6, (48, 64))
RATE = 16000


def with_audio(path: Path, codec: str = "aac", seconds: float = 1.0, start: float = 0.0) -> Path:
    """Write a clip of 25 frames/s with a tone that begins at `start`."""
    count = round(25 * seconds)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        sound = container.add_stream(codec, rate=RATE)
        sound.layout = "mono"
        for index, image in enumerate(moving_square(count, (48, 64))):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            tone = np.sin(np.arange(index * 640, (index + 1) * 640) / 8)[None]
            plane = tone.astype(np.float32) if codec == "aac" else (100 * tone + 128).astype(np.uint8)
            frame = av.AudioFrame.from_ndarray(plane, format="fltp" if codec == "aac" else "u8", layout="mono")
            frame.sample_rate, frame.pts = RATE, index * 640 + round(start * RATE)
            frame.time_base = Fraction(1, RATE)
            container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def write(path: Path, times: Sequence[Fraction | None], audio: Path | None = None, rate: int = 25) -> Path:
    with VideoWriter(path, rate, (48, 64), audio=audio) as writer:
        for index, time in enumerate(times):
            writer.write(IMAGES[index % len(IMAGES)], time)
    return path


def frame_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def audio_packets(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        return [(float(packet.pts * packet.time_base), bytes(packet)) for packet in packets]


@pytest.mark.parametrize("start", [Fraction(0), Fraction(3, 2)])
def test_frames_keep_their_times_from_the_first_one_on(tmp_path: Path, start: Fraction) -> None:
    gaps = [Fraction(0), Fraction(1001, 30000), Fraction(1, 10), Fraction(201, 2), Fraction(101), Fraction(1011, 10)]
    path = write(tmp_path / "a.mp4", [start + gap for gap in gaps])
    assert np.abs(np.array(frame_times(path)) - [float(gap) for gap in gaps]).max() < 1e-4


def test_the_last_frame_is_not_shown_longer_than_the_one_before(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [Fraction(index, 50) for index in range(6)], rate=1)
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(0.12e6, abs=1000)


@pytest.mark.parametrize("rate", [25, Fraction(30000, 1001), Fraction(24000, 1001), 24])
def test_regular_times_keep_the_rate(tmp_path: Path, rate: Fraction | int) -> None:
    path = write(tmp_path / "a.mp4", [index / Fraction(rate) for index in range(6)], rate=rate)  # type: ignore[arg-type]
    video = open_video(path)
    assert (video.rate, video.count) == (rate, 6)


def test_times_that_jump_back_continue(tmp_path: Path) -> None:
    times = [Fraction(index, 25) for index in (10, 11, 12, 10, 11, 13)]
    found = frame_times(write(tmp_path / "a.mp4", times))
    assert np.allclose(found, np.array([0, 1, 2, 3, 4, 6]) / 25, atol=1e-4)


def test_audio_is_copied_up_to_the_end_of_the_last_frame(tmp_path: Path) -> None:
    source = with_audio(tmp_path / "source.mp4")
    path = write(tmp_path / "a.mp4", [Fraction(index, 25) for index in range(10)], source)
    expected = [packet for packet in audio_packets(source) if 0 <= packet[0] < 10 / 25]
    found = audio_packets(path)
    assert 4 < len(found) < len(audio_packets(source))
    assert [content for _, content in found] == [content for _, content in expected]
    assert np.allclose([time for time, _ in found], [time for time, _ in expected], atol=1e-3)
    assert len(frame_times(path)) == 10


def test_audio_of_a_part_stays_in_step(tmp_path: Path) -> None:
    source = with_audio(tmp_path / "source.mp4")
    path = write(tmp_path / "a.mp4", [Fraction(index, 25) for index in range(10, 20)], source)
    expected = [(time - 0.4, content) for time, content in audio_packets(source) if 0.4 <= time < 0.8]
    found = audio_packets(path)
    assert [content for _, content in found] == [content for _, content in expected]
    assert np.allclose([time for time, _ in found], [time for time, _ in expected], atol=1e-3)


def test_audio_that_the_container_cannot_hold_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = with_audio(tmp_path / "source.mkv", "pcm_u8")
    path = write(tmp_path / "a.mp4", [Fraction(index, 25) for index in range(6)], source)
    assert len(frame_times(path)) == 6
    with av.open(str(path)) as container:
        assert not container.streams.audio
    assert caplog.messages == [f"{source}: its audio (pcm_u8) does not fit into .mp4, which is written without"]


def test_video_without_audio_is_copied_without_a_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = encode(tmp_path / "source.mp4", IMAGES)
    write(tmp_path / "a.mp4", [Fraction(index, 25) for index in range(6)], source)
    assert not caplog.messages


def rgba(count: int = 3) -> np.ndarray:
    """Return T H W 4 images with a soft ramp of alpha from left to right."""
    alpha = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (count, 48, 64))
    return np.concatenate([np.full((count, 48, 64, 3), (200, 120, 60), np.uint8), alpha[..., None]], 3)


def decoded(path: Path, decoder: str | None) -> list[np.ndarray]:
    """Decode to RGBA; FFmpeg's own VP9 decoder drops alpha, libvpx keeps it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if decoder is None:
            return [frame.to_ndarray(format="rgba") for frame in container.decode(stream)]
        context = av.CodecContext.create(decoder, "r")
        packets = [*(packet for packet in container.demux(stream) if packet.size), None]
        return [frame.to_ndarray(format="rgba") for packet in packets for frame in context.decode(packet)]


@pytest.mark.parametrize(
    ("video_format", "name", "decoder", "error"),
    [(PRORES, "a.mov", None, 2), (VP9, "a.webm", "libvpx-vp9", 6)],
    ids=["prores", "vp9"],
)
def test_transparency_round_trips(
    tmp_path: Path, video_format: VideoFormat, name: str, decoder: str | None, error: int
) -> None:
    images = rgba()
    times = [Fraction(0), Fraction(1, 25), Fraction(3)]
    with VideoWriter(tmp_path / name, 25, (48, 64), video_format=video_format) as writer:
        for image, time in zip(images, times, strict=True):
            writer.write(image, time)
    found = np.stack(decoded(tmp_path / name, decoder)).astype(int)
    assert found.shape == images.shape
    assert np.abs(found[..., 3] - images[..., 3]).max() <= error
    assert np.abs(found[..., :3] - images[..., :3]).mean() < 4
    assert np.allclose(frame_times(tmp_path / name), [0, 0.04, 3], atol=1e-3)


@pytest.mark.parametrize(("video_format", "channels"), [(H264, 4), (PRORES, 3)])
def test_frames_need_the_channels_of_the_format(tmp_path: Path, video_format: VideoFormat, channels: int) -> None:
    with (
        pytest.raises(WriteError, match=r"a\.mov: frame 0 has shape"),
        VideoWriter(tmp_path / "a.mov", 25, (48, 64), video_format=video_format) as writer,
    ):
        writer.write(np.zeros((48, 64, channels), np.uint8))
