"""OVIS and YouTube-VIS as released: one JSON file with runs, and the frames it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from tests.data.tree import image, save_image

SIZE = (24, 40)


def square(top: int, left: int, side: int = 8) -> NDArray[np.uint8]:
    out = np.zeros(SIZE, np.uint8)
    out[top : top + side, left : left + side] = 1
    return out


def moving(top: int, frames: int, absent: tuple[int, ...] = ()) -> list[NDArray[np.uint8] | None]:
    """A square that moves right by two pixels a frame, None where it is not seen."""
    return [None if t in absent else square(top, 2 + 2 * t) for t in range(frames)]


def runs(mask: NDArray[np.uint8] | None, kind: str = "string") -> dict[str, Any] | None:
    if mask is None:
        return None
    counts: Any
    if kind == "string":
        counts = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    else:
        flat = np.concatenate([[0], mask.flatten("F"), [2]])
        edges = np.flatnonzero(np.diff(flat)) if mask.any() else np.array([mask.size])
        counts = np.diff(np.concatenate([[0], edges])).tolist()
    return {"size": list(mask.shape), "counts": counts}


def video(identity: int, name: str, frames: int = 5) -> dict[str, Any]:
    names = [f"{name}/img_{t + 1:07}.jpg" for t in range(frames)]
    return {"id": identity, "width": SIZE[1], "height": SIZE[0], "length": frames, "file_names": names}


def annotation(
    identity: int, video_id: int, masks: list[NDArray[np.uint8] | None], kind: str = "string", **more: Any
) -> dict[str, Any]:
    return {
        "id": identity,
        "video_id": video_id,
        "category_id": 1,
        "segmentations": [runs(mask, kind) for mask in masks],
        "bboxes": [None if mask is None else [0, 0, 1, 1] for mask in masks],
        "areas": [None if mask is None else int(mask.sum()) for mask in masks],
        "iscrowd": 0,
        **more,
    }


def content(videos: int = 3, frames: int = 5) -> dict[str, Any]:
    """Three objects a video: one always there, one gone in frame 2, one that comes in frame 3."""
    annotations = []
    for v in range(1, videos + 1):
        late = tuple(range(3))
        annotations += [
            annotation(10 * v + 2, v, moving(0, frames), "numbers"),
            annotation(10 * v + 1, v, moving(8, frames, absent=(2,))),
            annotation(10 * v, v, moving(16, frames, absent=late)),
        ]
    return {
        "info": {},
        "licenses": [],
        "categories": [{"id": 1, "name": "Person", "supercategory": "object"}],
        "videos": [video(v, f"clip{v:02}", frames) for v in range(1, videos + 1)],
        "annotations": annotations,
    }


def ovis_tree(
    root: Path, what: dict[str, Any] | None = None, file: str = "annotations_train.json", folder: str = "train"
) -> Path:
    """Write a JSON file (that of `content` by default) and all frames that it names."""
    what = content() if what is None else what
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(what))
    for entry in what["videos"]:
        for t, name in enumerate(entry["file_names"]):
            save_image(root / folder / name, image(t, (entry["height"], entry["width"])))
    return root
