from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from voslab.core import DataError, generator
from voslab.video import image_files, palette, read_image, read_mask
from voslab.video.images import image_size

GREY = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8) * 5
RGB = generator("images").integers(0, 256, (6, 8, 3)).astype(np.uint8)


def save(path: Path, image: np.ndarray | Image.Image, **options: object) -> Path:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.tif", "a.TIFF", "a.webp"])
def test_lossless_formats_are_read_exactly(tmp_path: Path, name: str) -> None:
    image = read_image(save(tmp_path / name, RGB, **({"lossless": True} if name == "a.webp" else {})))
    assert image.dtype == np.uint8
    assert np.array_equal(image, RGB)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(RGB).convert(mode)
    assert np.array_equal(read_image(save(tmp_path / "a.png", source)), np.asarray(source.convert("RGB")))


def test_transparent_pixels_keep_their_colour(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, np.zeros((6, 8), np.uint8)])
    assert np.array_equal(read_image(save(tmp_path / "a.png", rgba)), RGB)
    paletted = Image.fromarray(GREY % 4).convert("P")
    assert read_image(save(tmp_path / "p.png", paletted, transparency=bytes([0, 90, 255, 3]))).shape == (6, 8, 3)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_colours_are_close(tmp_path: Path, mode: str) -> None:
    flat = np.full((16, 16, 3), (200, 90, 30), np.uint8)
    source = Image.fromarray(flat).convert(mode)
    image = read_image(save(tmp_path / "a.JPG", source, quality=95))
    assert np.abs(image.astype(int) - np.asarray(source.convert("RGB"))).max() <= 4


def test_16_bit_grey_is_scaled(tmp_path: Path) -> None:
    deep = np.array([[0, 128, 129, 257, 65535, 32768]], np.uint16)
    for path in (save(tmp_path / "a.png", deep), save(tmp_path / "a.tif", deep)):
        assert read_image(path)[0, :, 1].tolist() == [0, 0, 1, 1, 255, 128]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_image_and_mask_upright(tmp_path: Path, orientation: int) -> None:
    upright = palette()[GREY % 7]
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: np.rot90,
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", stored, exif=exif)
    assert np.array_equal(read_image(path), upright)
    assert np.array_equal(read_mask(path), GREY % 7)


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (12_000, 9_000)])
def test_decompression_bomb_is_refused_before_decoding(tmp_path: Path, width: int, height: int) -> None:
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(99)))
    path = tmp_path / "bomb.png"
    parts = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(DataError, match=r"bomb\.png: more than"):
        read_image(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DataError, match=r"bomb\.png: more than"):
            read_image(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_files_that_are_no_image_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.png"
    path.write_bytes(content)
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=r"no\.png: "):
            read(path)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: cannot be read \(No such file"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(DataError, match="directory"):
        read_mask(tmp_path)


def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "device.png"):
        for read in (read_image, read_mask, image_size):
            with pytest.raises(DataError, match=rf"{name}: not a file"):
                read(tmp_path / name)


def test_interlaced_and_one_pixel_images(tmp_path: Path) -> None:
    assert np.array_equal(read_image(save(tmp_path / "one.png", RGB[:1, :1])), RGB[:1, :1])
    assert np.array_equal(read_mask(save(tmp_path / "mask.png", GREY[:1, 1:2])), GREY[:1, 1:2])
    path = tmp_path / "interlaced.png"
    path.write_bytes(interlaced(GREY))
    assert np.array_equal(read_image(path)[..., 2], GREY)


def interlaced(grey: np.ndarray) -> bytes:
    """Adam7 by its definition; Pillow reads but does not write it."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    grids = (grey[y::down, x::across] for y, x, down, across in passes)
    rows = b"".join(b"\0" + row.tobytes() for grid in grids for row in grid if row.size)
    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 1)
    chunks = (b"IHDR" + header, b"IDAT" + zlib.compress(rows), b"IEND")
    parts = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_truncated_files_are_errors(tmp_path: Path, kind: str, share: float) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB.repeat(8, 0).repeat(8, 1)).save(buffer, kind)
    path = tmp_path / "cut.img"
    path.write_bytes(buffer.getvalue()[: int(share * len(buffer.getvalue()))])
    with pytest.raises(DataError, match=r"cut\.img: "):
        read_image(path)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "WEBP"]),
    flips=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 255)), min_size=1, max_size=9),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_give_an_image_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, flips: list[tuple[int, int]]
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for place, bits in flips:
        content[place % len(content)] ^= bits
    path = tmp_path_factory.getbasetemp() / "flipped.img"
    path.write_bytes(content)
    for read in (read_image, read_mask):
        message = f"{path}: fine"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # a flipped size must not make the test slow
            try:
                read(path)
            except DataError as error:
                message = str(error)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("a.png", GREY % 7, GREY % 7),
        ("a.png", np.where(GREY > 99, 255, 0).astype(np.uint8), np.where(GREY > 99, 255, 0)),
        ("a.png", np.dstack([GREY % 3, GREY]), np.where(GREY >= 118, GREY % 3, 0)),
        ("a.png", GREY > 99, GREY > 99),
        ("a.png", GREY.astype(np.uint16) * 270, GREY.astype(int) * 270),
        ("a.tif", GREY.astype(np.int32) * 9999, GREY.astype(int) * 9999),
        ("a.png", palette()[GREY], GREY),
        ("a.png", np.dstack([palette()[GREY], GREY]), np.where(GREY >= 118, GREY, 0)),
        ("a.png", np.where(palette()[GREY] == 192, 191, palette()[GREY]).astype(np.uint8), GREY),
        ("a.png", np.repeat((GREY > 99)[..., None] * np.uint8(255), 3, 2), np.where(GREY > 99, 255, 0)),
    ],
    ids=["grey", "0/255", "grey+alpha", "1-bit", "16-bit", "32-bit", "rgb", "rgba", "rgb-191", "black-white"],
)
def test_masks_give_exact_ids(tmp_path: Path, name: str, image: np.ndarray, expected: np.ndarray) -> None:
    mask = read_mask(save(tmp_path / name, image))
    assert mask.dtype == np.int32
    assert np.array_equal(mask, expected)


def test_palette_masks_give_indices_not_colours(tmp_path: Path) -> None:
    image = Image.fromarray(GREY)
    image.putpalette([7] * 768)
    assert np.array_equal(read_mask(save(tmp_path / "a.png", image)), GREY)


def test_transparent_pixels_are_background(tmp_path: Path) -> None:
    shape = disc()
    white = np.full_like(shape, 255)
    assert np.array_equal(read_mask(save(tmp_path / "a.png", np.dstack([white, shape]))), shape)
    assert np.array_equal(read_mask(save(tmp_path / "b.png", np.dstack([white, white, white, shape]))), shape)


def test_jpeg_masks_must_be_black_and_white(tmp_path: Path) -> None:
    for name, quality in (("a.jpg", 75), ("b.jpeg", 95)):
        for image in (Image.fromarray(disc()), Image.fromarray(disc()).convert("RGB")):
            image.save(tmp_path / name, quality=quality)
            found = read_mask(tmp_path / name)
            assert set(np.unique(found)) == {0, 255}
            assert (found != disc()).mean() < 0.01
    Image.fromarray(disc() // 3).save(tmp_path / "c.jpg")
    with pytest.raises(DataError, match=r"c\.jpg: a JPEG changes the ids of a mask, and 3\d% of this one"):
        read_mask(tmp_path / "c.jpg")


def test_a_palette_whose_background_is_another_entry_is_refused(tmp_path: Path) -> None:
    image = Image.fromarray(disc() // 255)
    image.putpalette([255, 0, 0, 0, 0, 0])
    with pytest.raises(DataError, match=r"entry 0 of the palette.*\[255, 0, 0\], and entry 1 is black"):
        read_mask(save(tmp_path / "a.png", image))
    image.putpalette([255, 255, 255, 255, 0, 0])
    assert np.array_equal(read_mask(save(tmp_path / "b.png", image)), disc() // 255)


def test_a_foreign_colour_is_named_with_its_pixels(tmp_path: Path) -> None:
    image = palette()[GREY % 3].copy()
    image[0, :3] = (1, 2, 3)
    image[5, 5] = (9, 9, 9)
    with pytest.raises(DataError, match=r"a\.png: colour \[1, 2, 3\] on 3 pixels .* \(2 such colours\); .*palette PNG"):
        read_mask(save(tmp_path / "a.png", image))


def test_invalid_masks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mode CMYK is no mask"):
        read_mask(save(tmp_path / "a.jpg", Image.fromarray(RGB).convert("CMYK")))
    with pytest.raises(DataError, match="negative id -3"):
        read_mask(save(tmp_path / "a.tif", np.array([[-3, 1]], np.int32)))
    with pytest.raises(DataError, match="mode F"):
        read_image(save(tmp_path / "f.tif", np.array([[0.5]], np.float32)))


def disc(size: int = 80) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size / 2
    return np.where(np.hypot(x, y) < size / 3, 255, 0).astype(np.uint8)


def test_anti_aliased_grey_objects_are_refused_with_the_number_of_ids(tmp_path: Path) -> None:
    soft = Image.fromarray(disc() // 2).resize((113, 97), Image.Resampling.BICUBIC)
    count = len(np.unique(np.asarray(soft))) - 1
    with pytest.raises(DataError, match=rf"a\.png: {count} ids, \d+ of them nowhere 3 pixels wide: an anti-aliased"):
        read_mask(save(tmp_path / "a.png", soft))
    assert set(np.unique(read_mask(save(tmp_path / "b.png", disc())))) == {0, 255}


@pytest.mark.parametrize("side", [1, 3])
def test_many_solid_and_a_few_tiny_objects_are_accepted(tmp_path: Path, side: int) -> None:
    mask = np.zeros((60, 120), np.uint8)
    for index in range(8 if side == 1 else 200):
        top, left = divmod(index, 20)
        mask[6 * top : 6 * top + side, 6 * left : 6 * left + side] = index + 1
    assert np.array_equal(read_mask(save(tmp_path / "a.png", mask)), mask)


def test_real_masks_with_and_without_alpha(vos_data: Path) -> None:
    folder = vos_data / "DAVIS/Annotations/480p/bear"
    for name in ("00000.png", "00077.png"):
        mask = read_mask(folder / name)
        assert mask.shape == (480, 854)
        assert set(np.unique(mask)) == {0, 255}


def test_image_files_are_sorted_naturally(tmp_path: Path) -> None:
    for name in ("10.jpg", "2.JPG", "1.png", "a10b.bmp", "a9b.webp", ".3.jpg", "notes.txt", "Thumbs.db"):
        (tmp_path / name).touch()
    (tmp_path / "4.jpg").mkdir()
    (tmp_path / "5.jpg").symlink_to(tmp_path / "5.jpg")
    names = [path.name for path in image_files(tmp_path)]
    assert names == ["1.png", "2.JPG", "5.jpg", "10.jpg", "a9b.webp", "a10b.bmp"]
    with pytest.raises(DataError, match=r"5\.jpg: cannot be read"):
        read_image(tmp_path / "5.jpg")


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=9, unique=True))
def test_natural_order_compares_numbers(tmp_path_factory: pytest.TempPathFactory, numbers: list[int]) -> None:
    folder = tmp_path_factory.mktemp("natural")
    for number in numbers:
        (folder / f"frame {number} of 7.png").touch()
    assert [path.stem for path in image_files(folder)] == [f"frame {n} of 7" for n in sorted(numbers)]


def test_invalid_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image in this folder"):
        image_files(tmp_path)
    with pytest.raises(DataError, match=r"gone: cannot be listed \(No such file"):
        image_files(tmp_path / "gone")
    for name in ("7.jpg", "7.png", "8.png"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="2 images are named 7"):
        image_files(tmp_path)
