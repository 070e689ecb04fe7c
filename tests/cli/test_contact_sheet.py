"""Tests of the contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from voslab.cli.contact_sheet import HEIGHT, MOMENTS, choose_rows, write_sheet
from voslab.data import VideoSequence
from voslab.metrics import davis_score
from voslab.video import write_mask

# Two objects in the first sequence; the third has a frame that cannot be scored.
SCORES = davis_score(
    np.array([[0, 1, 1, 0.2, 0.4], [0, 2, 1, 0.6, 0.8], [1, 1, 1, 0.9, 0.7], [2, 1, 1, np.nan, np.nan]], np.float64)
)


def test_best_median_and_worst_are_choose_rows_once() -> None:
    assert choose_rows(range(20), 3) == [0, 1, 2, 8, 9, 10, 17, 18, 19]
    assert choose_rows(range(5), 1) == [0, 2, 4]
    assert choose_rows(range(5), 2) == [0, 1, 2, 3, 4]
    assert choose_rows([], 2) == []


def test_score_of_a_sequence_is_the_mean_over_objects() -> None:
    means = SCORES.sequences()
    assert {index: round(mean, 12) for index, mean in means.items()} == {0: 0.5, 1: 0.8}


def test_rows_are_sorted_and_show_the_masks(tmp_path: Path) -> None:
    videos = []
    for name, shade in (("dark", 30), ("bright", 220)):
        files = []
        for index in range(5):
            files.append(tmp_path / name / f"{index}.png")
            files[-1].parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((80, 120, 3), shade, np.uint8)).save(files[-1])
            mask = np.zeros((80, 120), np.int32)
            mask[40:, 60:] = index > 0
            write_mask(tmp_path / "masks" / name / f"{index}.png", mask)
        videos.append(VideoSequence(name, tuple(files), (None,) * 5))
    write_sheet(tmp_path / "sheet.jpg", tmp_path / "masks", videos, SCORES)
    sheet = np.asarray(Image.open(tmp_path / "sheet.jpg")).astype(int)
    assert sheet.shape == (2 * HEIGHT, len(MOMENTS) * HEIGHT * 3 // 2, 3)
    corner = sheet[HEIGHT // 2 - 20 :: HEIGHT, 20 :: HEIGHT * 3 // 2]
    assert (abs(corner[0] - 220) < 8).all(), "the better sequence comes first"
    assert (abs(corner[1] - 30) < 8).all()
    inside = sheet[HEIGHT - 20, 200 :: HEIGHT * 3 // 2]
    assert abs(inside[0] - 220).max() < 8, "the first frame has no mask"
    assert (abs(inside[1:] - 220).max(-1) > 30).all(), "the object has its colour in all others"


def test_no_sheet_without_scores(tmp_path: Path) -> None:
    write_sheet(tmp_path / "sheet.jpg", tmp_path, [], davis_score(np.zeros((0, 5))))
    assert not (tmp_path / "sheet.jpg").exists()
