"""A small COCO in its official layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.tree import save_image

SIZE = (40, 60)
SQUARE = [[10, 5, 30, 5, 30, 25, 10, 25]]
"""20 x 20 pixels from (10, 5) on, as a polygon."""
CORNER = {"size": [40, 60], "counts": [0, 4, 36, 4, 36, 4, 36, 4, 2276]}
"""4 x 4 pixels in the upper left corner, as runs."""


def coco_tree(root: Path, annotations: list[dict[str, Any]] | None = None, images: int = 3) -> Path:
    """Images 10, 11, …; by default 10 has a square and a corner, 11 a crowd, and 12 a corner only."""
    if annotations is None:
        annotations = [
            {"id": 1, "image_id": 10, "segmentation": SQUARE, "iscrowd": 0},
            {"id": 2, "image_id": 10, "segmentation": CORNER, "iscrowd": 0},
            {"id": 3, "image_id": 11, "segmentation": CORNER, "iscrowd": 1},
            {"id": 4, "image_id": 11, "segmentation": SQUARE, "iscrowd": 0},
            {"id": 5, "image_id": 12, "segmentation": CORNER, "iscrowd": 0},
        ]
    listed = [{"id": 10 + i, "file_name": f"{10 + i:012}.jpg", "height": 40, "width": 60} for i in range(images)]
    for i, image in enumerate(listed):
        pixels = np.random.default_rng(i).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        save_image(root / "train2017" / str(image["file_name"]), pixels)
    write(root, {"images": listed, "annotations": annotations, "categories": []})
    return root


def write(root: Path, content: object) -> None:
    path = root / "annotations" / "instances_train2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
