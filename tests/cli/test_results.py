"""Tests of the results of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voslab.cli.results import masks_hash
from voslab.data import VideoSequence


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for name in ("dog/00000", "dog/00001", "cow/00000"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(ids, "P").save(path, compress_level=9)
    return tmp_path


def test_masks_hash_depends_on_names_and_pixels_only(masks: Path) -> None:
    videos = [
        VideoSequence(name, tuple(Path(f"{i:05}.jpg") for i in range(count)), (None,) * count)
        for name, count in (("dog", 2), ("cow", 1))
    ]
    before, path = masks_hash(masks, videos), masks / "dog/00001.png"
    ids = np.asarray(Image.open(path)).copy()
    Image.fromarray(ids, "L").save(path, compress_level=0)
    Image.fromarray(ids, "L").save(masks / "dog/00002.png")
    assert masks_hash(masks, videos) == before, "masks of other runs are ignored"
    ids[2, 1] += 1
    Image.fromarray(ids, "L").save(path)
    assert masks_hash(masks, videos) != before
    ids[2, 1] -= 1
    Image.fromarray(ids.T, "L").save(path)
    assert masks_hash(masks, videos) != before
    Image.fromarray(ids, "L").save(path)
    assert masks_hash(masks, videos) == before
    assert masks_hash(masks, videos[:1]) != before
