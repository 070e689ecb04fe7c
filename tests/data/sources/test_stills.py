from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tree import image, labels, save_image, save_mask
from voslab.core import DataError
from voslab.data.sources.stills import stills


def pair(image_path: Path, mask: Path, values: np.ndarray | None = None, mode: str = "L") -> None:
    save_image(image_path, image(0))
    save_mask(mask, labels(0, ids=(255,)) if values is None else values, mode)


@pytest.mark.parametrize(
    ("image_path", "mask"),
    [
        ("DUTS-TR/DUTS-TR-Image/a.jpg", "DUTS-TR/DUTS-TR-Mask/a.png"),
        ("ecssd/images/0001.jpg", "ecssd/ground_truth_mask/0001.png"),
        ("fss/ab_wheel/1.jpg", "fss/ab_wheel/1.png"),
        ("flat.jpg", "flat.png"),
    ],
)
def test_published_layouts_are_found(tmp_path: Path, image_path: str, mask: str) -> None:
    pair(tmp_path / image_path, tmp_path / mask)
    found = stills(tmp_path)
    assert len(found) == 1
    still = found.load(0)
    np.testing.assert_array_equal(still.labels, labels(0, ids=(1,)))
    assert still.image.shape == (24, 40, 3)


def test_all_sets_below_one_folder_are_found_in_order_and_images_alone_left_out(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a/1"):
        pair(tmp_path / f"{name}.jpg", tmp_path / f"{name}.png")
    save_image(tmp_path / "a" / "alone.jpg", image(0))
    save_image(tmp_path / ".hidden" / "1.jpg", image(0))
    found = stills(tmp_path)
    assert [found.load(i).name for i in range(len(found))] == ["a/1", "b/1", "b/2"]


def test_grey_masks_are_cut_at_half_and_palettes_hold_ids(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (24, 1))
    pair(tmp_path / "soft.jpg", tmp_path / "soft.png", ramp)
    pair(tmp_path / "ids.jpg", tmp_path / "ids.png", labels(0, ids=(3, 9)), "P")
    ids, soft = (stills(tmp_path).load(i).labels for i in range(2))
    np.testing.assert_array_equal(ids, labels(0, ids=(3, 9)))
    np.testing.assert_array_equal(soft, ramp > 127)


def test_invalid_pairs_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        stills(tmp_path / "none")
    save_image(tmp_path / "a.jpg", image(0))
    with pytest.raises(DataError, match=r"no pairs of image and mask; looked for name\.jpg \+ name\.png"):
        stills(tmp_path)
    save_mask(tmp_path / "a.png", np.zeros((7, 9), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: the mask is 9 x 7 pixels, its image .*a\.jpg is 40 x 24"):
        stills(tmp_path).load(0)
    (tmp_path / "a.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"a\.png"):
        stills(tmp_path).load(0)
    Image.new("L", (40, 24)).save(tmp_path / "a.png")
    (tmp_path / "a.jpg").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"a\.jpg"):
        stills(tmp_path).load(0)
