from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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
    folder_of(folder_of(tmp_path, ["0.png"]), ["2.png", "9.png"], (3, 5))
    with pytest.raises(DataError, match=r"2\.png: the mask is 5 x 3, the ones before 4 x 3"):
        dict(read_masks(tmp_path))
    with pytest.raises(DataError, match=r"0\.png: the mask is 4 x 3, the video 5 x 3"):
        dict(read_masks(tmp_path, size=(3, 5)))


def test_missing_paths_and_damaged_masks_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: no such mask"):
        read_masks(tmp_path / "gone.png")
    (tmp_path / "0.png").write_bytes(b"\x89PNG")
    masks = read_masks(tmp_path)
    assert list(masks) == [0]
    with pytest.raises(DataError, match=r"0\.png: not an image"):
        masks[0]
