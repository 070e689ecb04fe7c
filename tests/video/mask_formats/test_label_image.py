"""Images that people hand in as masks: soft brushes, cut-outs, colours, and what is no mask."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from voslab.core import DataError, generator
from voslab.video import MaskOptions, palette, read_mask, write_mask
from voslab.video.mask_formats.colours import ColourTable
from voslab.video.mask_formats.options import LITERAL

AUTO, ANY = MaskOptions(), MaskOptions("any")
SPECKLES = (0.9, 0.05, 0.05)  # share of background and of two ids in a noisy mask
SIZE = (72, 96)


def blobs(*circles: tuple[int, int, int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """Label map with a disc per (row, column, radius), ids from 1."""
    labels = np.zeros(size, np.uint8)
    for identity, (row, column, radius) in enumerate(circles, 1):
        cv2.circle(labels, (column, row), radius, identity, -1)
    return labels


ONE, TWO = blobs((36, 48, 22)), blobs((36, 30, 18), (40, 66, 16))


def soft(sigma: float, labels: np.ndarray = ONE) -> np.ndarray:
    return cv2.GaussianBlur(np.where(labels, 255, 0).astype(np.uint8), (0, 0), sigma)


def read(
    path: Path, image: np.ndarray | Image.Image, options: MaskOptions = AUTO, **save: object
) -> tuple[np.ndarray, list[str]]:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, **save)
    said: list[str] = []
    return read_mask(path, options, lambda kind, message: said.append(message)), said


KINDS = {
    "grey": lambda grey: Image.fromarray(grey),
    "rgb": lambda grey: Image.fromarray(grey).convert("RGB"),
    "rgba": lambda grey: Image.merge("RGBA", (*[Image.new("L", grey.shape[::-1], 255)] * 3, Image.fromarray(grey))),
    "black rgba": lambda grey: Image.merge("RGBA", (*[Image.new("L", grey.shape[::-1])] * 3, Image.fromarray(grey))),
    "opaque rgba": lambda grey: Image.fromarray(grey).convert("RGBA"),
    "la": lambda grey: Image.merge("LA", (Image.new("L", grey.shape[::-1], 255), Image.fromarray(grey))),
    "palette": lambda grey: Image.fromarray(grey).convert("P"),
    "quantised": lambda grey: Image.fromarray(grey).convert("RGB").quantize(32),
    "16 bit": lambda grey: Image.fromarray(grey.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigma", [0.6, 2, 4])
def test_a_soft_object_is_cut_at_half(tmp_path: Path, kind: str, sigma: float) -> None:
    grey = soft(sigma)
    found, said = read(tmp_path / "a.png", KINDS[kind](grey))
    assert set(np.unique(found)) == {0, 255}
    assert ((found > 0) != (grey >= 128)).mean() < 0.005
    assert any("cut at half" in line for line in said)


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("sigma", [0.6, 2, 4])
def test_a_soft_object_in_a_jpeg_is_cut_at_half(tmp_path: Path, quality: int, sigma: float) -> None:
    found, _ = read(tmp_path / "a.jpg", Image.fromarray(soft(sigma)).convert("RGB"), quality=quality)
    assert set(np.unique(found)) == {0, 255}
    assert ((found > 0) != (soft(sigma) >= 128)).mean() < 0.01


@settings(max_examples=30)
@example(circles=[(10, 10, 8)], sigma=3.0, kind="quantised")
@example(circles=[(10, 10, 8)], sigma=3.0, kind="16 bit")
@given(
    circles=st.lists(st.tuples(st.integers(10, 62), st.integers(10, 86), st.integers(8, 24)), min_size=1, max_size=3),
    sigma=st.floats(0.5, 3),
    kind=st.sampled_from(sorted(KINDS)),
)
def test_soft_objects_of_any_shape_are_one_object(
    tmp_path_factory: pytest.TempPathFactory, circles: list[tuple[int, int, int]], sigma: float, kind: str
) -> None:
    grey = soft(sigma, blobs(*circles))
    found, _ = read(tmp_path_factory.getbasetemp() / "soft.png", KINDS[kind](grey))
    assert set(np.unique(found)) == {0, 255}
    assert ((found > 0) != (grey >= 128)).mean() < 0.01


def test_a_cut_out_is_a_mask(tmp_path: Path) -> None:
    photo = generator("photo").integers(1, 256, (*SIZE, 3)).astype(np.uint8)
    for name, image in (("rgba", np.dstack([photo, soft(1)])), ("la", np.dstack([photo[..., 0], soft(1)]))):
        found, said = read(tmp_path / f"{name}.png", image)
        assert np.array_equal(found, np.where(soft(1) >= 128, 255, 0))
        assert any("opaque part is taken for one object" in line for line in said)


def test_alpha_restricts_ids(tmp_path: Path) -> None:
    rgba = np.dstack([palette()[TWO], np.where(TWO == 2, 100, 255).astype(np.uint8)])
    found, _ = read(tmp_path / "a.png", rgba)
    assert np.array_equal(found, np.where(TWO == 2, 0, TWO))


def test_half_transparent_annotations_are_kept(tmp_path: Path) -> None:
    rgba = np.dstack([palette()[TWO], np.where(TWO, 100, 0).astype(np.uint8)])
    assert np.array_equal(read(tmp_path / "a.png", rgba)[0], TWO)


@settings(max_examples=40)
@given(
    circles=st.lists(st.tuples(st.integers(5, 66), st.integers(5, 90), st.integers(2, 25)), min_size=1, max_size=8),
    line=st.tuples(st.integers(0, 71), st.integers(0, 95), st.integers(0, 71), st.integers(0, 95)),
    colours=st.integers(0, 2**31),
)
def test_hard_ids_stay_as_they_are(
    tmp_path_factory: pytest.TempPathFactory,
    circles: list[tuple[int, int, int]],
    line: tuple[int, int, int, int],
    colours: int,
) -> None:
    labels, path = blobs(*circles), tmp_path_factory.getbasetemp() / "hard.png"
    cv2.line(labels, line[1::-1], line[:1:-1], 9, 1)  # a thin object, such as a rope
    image = Image.fromarray(labels)
    assert np.array_equal(read(path, image)[0], labels)
    image.putpalette(palette().tobytes())
    assert np.array_equal(read(path, image)[0], labels)
    if len(np.unique(labels)) > 1:
        assert np.array_equal(read(path, palette()[labels])[0], labels)
    table = np.unique(np.random.default_rng(colours).integers(20, 256, (40, 3)), axis=0).astype(np.uint8)
    table[0] = 0
    found, _ = read(path, table[labels], ANY)
    assert len(np.unique(found)) == len(np.unique(labels))
    assert all(len(np.unique(labels[found == i])) == 1 for i in np.unique(found))


@pytest.mark.parametrize("colors", [16, 32, 64])
@pytest.mark.parametrize("resampling", [Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
def test_anti_aliased_palettes_are_refused(tmp_path: Path, colors: int, resampling: Image.Resampling) -> None:
    image = Image.fromarray(palette()[TWO]).resize((150, 110), resampling).quantize(colors)
    with pytest.raises(DataError, match=r"anti-aliased|entry 0 of the palette"):
        read(tmp_path / "a.png", image)


def test_few_blends_along_an_edge_are_refused(tmp_path: Path) -> None:
    """Four ids: background, two objects, and the mean of one with background; a count of ids does not show it."""
    edge = cv2.dilate((TWO == 1).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    labels = np.where(edge & (TWO == 0), 3, TWO)
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette([0, 0, 0, 200, 30, 30, 30, 200, 30, 100, 15, 15])
    with pytest.raises(DataError, match="1 of its ids are blends of 0 and 1 along their border"):
        read(tmp_path / "a.png", image)
    image.putpalette([0, 0, 0, 200, 30, 30, 30, 200, 30, 30, 30, 250])
    assert np.array_equal(read(tmp_path / "b.png", image)[0], labels)


@pytest.mark.parametrize("seed", range(6))
def test_dithered_palettes_are_refused(tmp_path: Path, seed: int) -> None:
    colours = np.random.default_rng(seed).integers(60, 250, (3, 3)).astype(np.uint8)
    colours[0] = 0
    image = Image.fromarray(colours[TWO])
    for dithered in (
        image.convert("P", palette=Image.Palette.WEB),
        image.convert("P", palette=Image.Palette.WEB).convert("RGB"),
    ):
        with pytest.raises(DataError, match=r"dithered|anti-aliased|photo|not in the DAVIS palette"):
            read(tmp_path / "a.png", dithered)
    with pytest.raises(DataError, match=r"dithered|anti-aliased|photo"):
        read(tmp_path / "a.png", dithered, ANY)


def test_photos_are_no_masks(tmp_path: Path) -> None:
    photo = cv2.GaussianBlur(generator("scene").integers(0, 256, (*SIZE, 3)).astype(np.uint8), (0, 0), 3)
    photo = cv2.normalize(photo, None, 0, 255, cv2.NORM_MINMAX)
    for name, image in (
        ("rgb.png", Image.fromarray(photo)),
        ("grey.png", Image.fromarray(photo[..., 0])),
        ("palette.png", Image.fromarray(photo).quantize(64)),
        ("a.jpg", Image.fromarray(photo)),
        ("grey.jpg", Image.fromarray(photo[..., 0])),
    ):
        with pytest.raises(DataError):
            read(tmp_path / name, image)


def test_a_coloured_jpeg_is_no_mask(tmp_path: Path) -> None:
    yellow = np.array([[0, 0, 0], [255, 255, 0]], np.uint8)[ONE]
    with pytest.raises(DataError, match=r"a JPEG changes the ids of a mask, and \d+% of this one is coloured"):
        read(tmp_path / "a.jpg", yellow, quality=95)


def test_a_gradient_without_white_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read(tmp_path / "a.png", soft(20) // 2)


def test_ids_of_colours_do_not_depend_on_the_order_in_which_pixels_come(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
    for labels in (TWO, TWO[:, ::-1]):
        found, said = read(tmp_path / "a.png", colours[labels], ANY)
        assert np.array_equal(found, np.array([0, 2, 1])[labels])
        assert said == [f"{tmp_path / 'a.png'}: every colour is an object: 1 = [51, 221, 255], 2 = [250, 50, 83]"]


def test_panoptic_colours_and_the_void_colour(tmp_path: Path) -> None:
    codes = np.array([0, 1, 70_000])[TWO]
    image = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 2).astype(np.uint8)
    assert np.array_equal(read(tmp_path / "a.png", image, ANY)[0], TWO)
    border = cv2.dilate((TWO > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) - (TWO > 0)
    image[border > 0] = palette()[255]
    found, _ = read(tmp_path / "b.png", image, MaskOptions("any", 255))
    assert np.array_equal(found, np.where(border, 255, TWO))


def test_a_table_keeps_the_ids_of_earlier_files() -> None:
    table = ColourTable()
    table.add([0x20, 0x10])
    table.add([0x05, 0x20])
    assert table.ids == {0: 0, 0x10: 1, 0x20: 2, 0x05: 3}


def test_grey_levels_in_rgb_are_ids(tmp_path: Path) -> None:
    assert np.array_equal(read(tmp_path / "a.png", np.repeat(TWO[..., None], 3, 2))[0], TWO)


def test_noisy_masks_in_the_davis_palette_are_taken_as_they_are(tmp_path: Path) -> None:
    noise = generator("noise").choice(3, SIZE, p=SPECKLES).astype(np.uint8)
    write_mask(tmp_path / "written.png", noise)
    assert np.array_equal(read_mask(tmp_path / "written.png"), noise)
    image = Image.fromarray(noise)
    image.putpalette(np.where(palette() == 192, 191, palette()).astype(np.uint8).tobytes())
    assert np.array_equal(read(tmp_path / "copy.png", image)[0], noise)
    image.putpalette([0, 0, 0, 200, 30, 30, 30, 200, 30])
    with pytest.raises(DataError, match="dithered"):
        read(tmp_path / "other.png", image)


@pytest.mark.parametrize("high", [3, 200, 300])
def test_ids_of_data_sets_and_predictions_may_be_noisy(tmp_path: Path, high: int) -> None:
    """Noise of background and the two ids below `high`."""
    noise = generator(f"noise {high}").choice([0, high - 2, high - 1], SIZE, p=SPECKLES)
    image = Image.fromarray(noise.astype(np.uint8 if high <= 256 else np.uint16))
    with pytest.raises(DataError, match="dithered"):
        read(tmp_path / "a.png", image)
    assert np.array_equal(read(tmp_path / "a.png", image, LITERAL)[0], noise)


def test_thin_objects_beside_white_keep_their_ids_in_data_sets(tmp_path: Path) -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[10:60, 20:70], labels[30:33, 30:33] = 255, 9
    assert np.array_equal(read(tmp_path / "a.png", labels, LITERAL)[0], labels)
