from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voslab.methods.adaptation.plots import curves, save, tile_rows


def test_tiled_rows_contain_every_image() -> None:
    images = [[np.full((4, 6, 3), 10 * (3 * i + j), np.uint8) for j in range(3)] for i in range(2)]
    drawn = tile_rows(images)
    assert drawn.shape == (16, 30, 3)
    assert {int(value) for value in np.unique(drawn)} == {0, 10, 20, 30, 40, 50, 255}


@pytest.mark.parametrize("values", [[3.0, 2.0, 1.0], [0.0], [1.0, float("nan"), float("inf")]])
def test_curves_accept_any_values(values: list[float], tmp_path: Path) -> None:
    drawn = curves({"loss": values, "norm": [1.0, 2.0]})
    assert drawn.shape[0] == 280
    save(tmp_path / "curves.png", drawn)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "curves.png")), drawn)
