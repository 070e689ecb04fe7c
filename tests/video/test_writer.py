from __future__ import annotations

import resource
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from time import perf_counter

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from tests.video.clips import moving_square
from voslab.core import DataError, WriteError, generator
from voslab.video import BackgroundWriter, VideoWriter, colour, open_video, overlay, palette, read_mask, write_mask

IMAGES = moving_square()
NOISE = generator("writer").integers(0, 256, (256, 256, 3)).astype(np.uint8)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files of more than 20 kB cannot be written."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@settings(max_examples=40, deadline=None)
@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.int32, np.int64]),
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.integers(0, 255),
    ),
    st.sampled_from([1, 256, 257]),
)
def test_masks_round_trip(tmp_path_factory: pytest.TempPathFactory, ids: np.ndarray, times: int) -> None:
    path = tmp_path_factory.getbasetemp() / "mask.png"
    ids = ids.astype(np.int64) * times
    write_mask(path, ids)
    assert np.array_equal(read_mask(path), ids)
    with Image.open(path) as image:
        assert image.mode == ("P" if ids.max() < 256 else "I;16")


def test_small_ids_are_written_as_palette_pngs(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.array([[0, 1, 255]]))
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert image.getpalette() == palette().ravel().tolist()
        assert np.array_equal(image.convert("RGB"), palette()[[[0, 1, 255]]])


@pytest.mark.parametrize("wrong", [70000, -1])
def test_ids_that_do_not_fit_are_refused(tmp_path: Path, wrong: int) -> None:
    with pytest.raises(DataError, match=rf"a\.png: id {wrong} does not fit"):
        write_mask(tmp_path / "a.png", np.array([[0, wrong, 5]]))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_keeps_the_old_mask(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.eye(4, dtype=int))
    with pytest.raises(WriteError, match=r"a\.png: cannot be written \(File too large\)"):
        write_mask(tmp_path / "a.png", NOISE[..., 0])
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert np.array_equal(read_mask(tmp_path / "a.png"), np.eye(4))


@pytest.mark.parametrize("name", ["folder", "file/inside.png"])
def test_unwritable_masks_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=f"{name}: cannot be written"):
        write_mask(tmp_path / name, np.eye(4, dtype=int))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def write_video(
    path: Path, images: Sequence[np.ndarray], rate: Fraction | int = 25, error: BaseException | None = None
) -> Path:
    with VideoWriter(path, rate, images[0].shape[:2]) as writer:
        for image in images:
            writer.write(image)
        if error:
            raise error
    return path


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(125, 8), Fraction(1, 3), 24, 1000])
def test_video_round_trip_keeps_frames_and_rate(tmp_path: Path, rate: Fraction | int) -> None:
    path = write_video(tmp_path / "new folder" / "it's a video – ü.mp4", IMAGES, rate)
    video = open_video(path)
    assert (video.rate, video.count, video.size) == (rate, 12, (48, 64))
    images = np.stack([frame.image for frame in video])
    assert np.abs(images.astype(int) - IMAGES).mean(axis=(1, 2, 3)).max() < 4
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        durations = {packet.duration * packet.time_base for packet in container.demux(video=0) if packet.size}
    assert durations == {1 / Fraction(rate)}
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize("size", [(1, 1), (17, 31), (33, 64), (32, 65)])
def test_odd_sizes_are_padded_with_the_last_row_and_column(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width = size
    ramp = np.linspace(30, 200, height)[:, None] * 0.5 + np.linspace(30, 200, width)[None] * 0.5
    image = np.repeat(ramp.astype(np.uint8)[..., None], 3, 2)
    video = open_video(write_video(tmp_path / "odd.mp4", image[None]))
    assert video.size == (height + height % 2, width + width % 2)
    padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    assert np.abs(next(iter(video)).image.astype(int) - padded).max() < 12


def test_saturated_colours_round_trip(tmp_path: Path) -> None:
    flat = np.full((1, 32, 32, 3), (200, 20, 30), np.uint8)
    image = next(iter(open_video(write_video(tmp_path / "a.mp4", flat)))).image
    assert np.abs(image.astype(int) - flat[0]).max() <= 4


@pytest.mark.parametrize("error", [KeyError("mine"), OSError(28, "mine"), KeyboardInterrupt()])
def test_error_in_the_block_propagates_and_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a.mp4").write_text("old")
    with pytest.raises(type(error)) as caught:
        write_video(tmp_path / "a.mp4", IMAGES, error=error)
    assert caught.value is error
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.mp4", "old")]


def test_invalid_frames_are_write_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(WriteError, match=r"a\.mp4: frame 1 has shape \(48, 63, 3\), not \(48, 64, 3\)"):
        write_video(path, [IMAGES[0], IMAGES[0][:, 1:]])
    with pytest.raises(WriteError, match=r"a\.mp4: no frame was written"), VideoWriter(path, 25, (48, 64)):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [0, -5, Fraction(2**40, 7)])
def test_an_impossible_rate_is_an_error(tmp_path: Path, rate: Fraction | int) -> None:
    with pytest.raises(WriteError, match=r"a\.mp4: "):
        write_video(tmp_path / "a.mp4", IMAGES, rate)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["folder", "file/inside.mp4"])
def test_unwritable_videos_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=f"{name}: "):
        write_video(tmp_path / name, IMAGES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_missing_encoder_is_a_write_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise av.codec.codec.UnknownCodecError("libx264")

    monkeypatch.setattr("voslab.video.video_writer.av.open", refuse)
    with pytest.raises(WriteError, match=r"a\.mp4: the video cannot be written \(libx264\)"):
        write_video(tmp_path / "a.mp4", IMAGES)


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("frames", [1, 60])
def test_full_disk_raises_and_leaves_no_file(tmp_path: Path, frames: int) -> None:
    def produce() -> None:
        with (
            VideoWriter(tmp_path / "a.mp4", 25, (256, 256)) as writer,
            BackgroundWriter(writer.write) as background,
        ):
            for _ in range(frames):
                background.put(NOISE)

    start = perf_counter()
    with pytest.raises(WriteError, match=r"a\.mp4: the video cannot be written \(File too large\)"):
        produce()
    assert perf_counter() - start < 5
    assert not list(tmp_path.iterdir())


def test_overlay_draws_colour_and_a_white_outline() -> None:
    image = np.full((20, 30, 3), 100, np.uint8)
    ids = np.zeros((20, 30), np.int32)
    ids[5:15, 5:15], ids[5:15, 15:25] = 1, 300
    drawn = overlay(image, ids, alpha=0.25)
    assert np.array_equal(image, np.full((20, 30, 3), 100))
    assert np.array_equal(drawn[ids == 0], image[ids == 0])
    for index, left in ((1, 5), (300, 15)):
        inner = drawn[6:14, left + 1 : left + 9].reshape(-1, 3)
        assert np.abs(inner - (75 + 0.25 * colour(np.array(index)))).max() <= 0.5
        for line in (drawn[5, left:], drawn[14, left:], drawn[5:15, left], drawn[5:15, left + 9]):
            assert (line[:10] == 255).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_overlay_without_objects_or_edges(dtype: type) -> None:
    assert np.array_equal(overlay(NOISE, np.zeros((256, 256), dtype)), NOISE)
    assert np.array_equal(overlay(NOISE, np.ones((256, 256), dtype), alpha=0), NOISE)
    assert (overlay(NOISE, np.ones((256, 256), dtype), alpha=1) == colour(np.array(1))).all()
    assert overlay(NOISE[:1, :1], np.ones((1, 1), dtype)).shape == (1, 1, 3)
