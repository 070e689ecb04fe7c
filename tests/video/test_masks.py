from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voslab.core import DataError
from voslab.video import read_masks, write_mask


def folder_of(folder: Path, names: list[str], size: tuple[int, int] = (3, 4)) -> Path:
    folder.mkdir(exist_ok=True)
    for value, name in enumerate(names, 1):
        write_mask(folder / name, np.full(size, value))
    return folder


def values(masks: dict[int, np.ndarray]) -> dict[int, int]:
    return {index: int(mask[0, 0]) for index, mask in masks.items()}


def test_single_mask_file_is_frame_zero(tmp_path: Path) -> None:
    write_mask(tmp_path / "any name.png", np.array([[0, 300, 7]]))
    masks = read_masks(tmp_path / "any name.png")
    assert list(masks) == [0]
    assert masks[0].tolist() == [[0, 300, 7]]
    assert masks[0].dtype == np.int32


def test_mask_names_are_frame_numbers(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["12.png", "00000.png", "5.png"])
    masks = read_masks(folder, count=13)
    assert values(masks) == {0: 2, 5: 3, 12: 1}
    assert list(masks) == [0, 5, 12]


def test_masks_are_matched_by_image_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["00010.png", "00005.png"])
    assert values(read_masks(folder, names=("00005", "00010", "00015"))) == {0: 2, 1: 1}


def test_number_without_an_image_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["00001.png"])
    with pytest.raises(DataError, match=r"00001\.png: no image of the video has this name \(they are 00005 to 00010\)"):
        read_masks(folder, names=("00005", "00010"))
    assert values(read_masks(folder, names=("shot_a", "shot_b"))) == {1: 1}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["first.png"], r"first\.png: a mask must be named by the number"),
        (["1.png", "001.png"], r"1\.png: a second mask for frame 1, besides"),
        (["3.png"], r"3\.png: mask for frame 3, but the video has 3 frames"),
        ([], "no image in this folder"),
    ],
)
def test_wrong_folders_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_masks(folder_of(tmp_path / "masks", names), count=3)


def test_masks_must_have_one_size(tmp_path: Path) -> None:
    folder_of(folder_of(tmp_path, ["0.png"]), ["2.png", "9.png"], (3, 6))
    with pytest.raises(DataError, match=r"2\.png: the mask is 6 x 3, the ones before 4 x 3"):
        read_masks(tmp_path)
    with pytest.raises(DataError, match=r"0\.png: the mask is 4 x 3, the video 6 x 3"):
        read_masks(tmp_path, size=(3, 6))


def test_missing_paths_and_damaged_masks_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: no such mask"):
        read_masks(tmp_path / "gone.png")
    (tmp_path / "0.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"0\.png: not an image"):
        read_masks(tmp_path)
    large(tmp_path / "0.png", (64, 96))
    masks = read_masks(tmp_path, size=(64, 96))
    assert list(masks) == [0]
    with pytest.raises(DataError, match=r"0\.png: "):
        masks[0]


def large(path: Path, size: tuple[int, int]) -> Path:
    """A mask of which only the header is sound: decoding it would fail."""
    content = io.BytesIO()
    Image.fromarray(np.ones((4, 6), np.uint8)).save(content, "PNG")
    header = bytearray(content.getvalue())
    header[16:24] = struct.pack(">II", size[1], size[0])
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    path.write_bytes(header)
    return path


def test_all_sizes_are_read_from_headers_at_the_start(tmp_path: Path) -> None:
    write_mask(tmp_path / "0.png", np.ones((64, 96)))
    large(tmp_path / "7.png", (9000, 9000))
    with pytest.raises(DataError, match=r"7\.png: the mask is 9000 x 9000, the video 96 x 64"):
        read_masks(tmp_path, size=(64, 96))
    with pytest.raises(DataError, match=r"7\.png: the mask is 9000 x 9000, the ones before 96 x 64"):
        read_masks(tmp_path)


@pytest.mark.parametrize("size", [(65, 96), (63, 95), (64, 97)])
def test_a_difference_of_one_pixel_is_resized_with_a_warning(
    tmp_path: Path, size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    labels = np.zeros(size, np.uint8)
    labels[:32, :48] = 7
    for name in ("0.png", "3.png"):
        write_mask(tmp_path / name, labels)
    masks = read_masks(tmp_path, size=(64, 96))
    expected = np.zeros((64, 96))
    expected[:32, :48] = 7
    for mask in masks.values():
        assert mask.shape == (64, 96)
        assert (mask != expected).sum() <= 96
        assert set(np.unique(mask)) == {0, 7}
    [line] = caplog.messages
    assert line == f"{tmp_path}/0.png: the mask is {size[1]} x {size[0]}, resized to 96 x 64"


def test_two_pixels_are_refused(tmp_path: Path) -> None:
    write_mask(tmp_path / "0.png", np.ones((64, 94)))
    with pytest.raises(DataError, match=r"0\.png: the mask is 94 x 64, the video 96 x 64; mask_resize=true"):
        read_masks(tmp_path, size=(64, 96))
