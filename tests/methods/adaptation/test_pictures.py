from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.methods.adaptation.pictures import curves, heated, rows_of, save


def test_heat_has_one_scale_for_all_pictures() -> None:
    grey = np.full((8, 8, 3), 128, np.uint8)
    low, high = (heated(grey, np.full((8, 8), value, np.float32)) for value in (0.0, 1.0))
    assert high.mean() > low.mean() + 50
    assert (grey == 128).all()
    half = heated(grey, np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    assert np.array_equal(half[0, 0], low[0, 0])
    assert np.array_equal(half[-1, -1], high[0, 0])


def test_rows_hold_every_picture() -> None:
    pictures = [[np.full((4, 6, 3), 10 * (3 * i + j), np.uint8) for j in range(3)] for i in range(2)]
    drawn = rows_of(pictures)
    assert drawn.shape == (16, 30, 3)
    assert {int(value) for value in np.unique(drawn)} == {0, 10, 20, 30, 40, 50, 255}


@pytest.mark.parametrize("values", [[3.0, 2.0, 1.0], [0.0], [1.0, float("nan"), float("inf")]])
def test_curves_are_drawn_of_any_values(values: list[float], tmp_path: Path) -> None:
    drawn = curves({"loss": values, "norm": [1.0, 2.0]})
    assert drawn.shape[0] == 280
    save(tmp_path / "curves.png", drawn)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "curves.png")), drawn)
