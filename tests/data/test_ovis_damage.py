"""What may be wrong with a file of annotations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.ovis_tree import content, ovis_tree, runs, square
from voslab.core import DataError
from voslab.data.sources.ovis import ovis


def change(entry: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    """Give the second video or annotation other values; `None` stays, `...` takes the key away."""

    def apply(what: dict[str, Any]) -> None:
        for key, value in values.items():
            if value is ...:
                del what[entry][1][key]
            else:
                what[entry][1][key] = value

    return apply


def segmentation(value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(what: dict[str, Any]) -> None:
        what["annotations"][1]["segmentations"][3] = value

    return apply


GOOD = runs(square(0, 0))
assert GOOD is not None
DAMAGE = [
    (lambda what: what.update(annotations=None), "holds no annotations; .* public for `train` only"),
    (lambda what: what.pop("annotations"), "holds no annotations"),
    (lambda what: what.pop("videos"), "has no 'videos'"),
    (lambda what: what.update(videos={}), "'videos' must be of type list, not dict"),
    (lambda what: what["videos"].append([]), "video number 3: has no 'id'"),
    (lambda what: what["annotations"].append(None), "annotation number 9: has no 'id'"),
    (change("videos", id="2"), "video number 1: 'id' must be of type int, not str"),
    (change("videos", id=True), "video number 1: 'id' must be of type int, not bool"),
    (change("videos", id=1), "video number 1: the id 1 is taken already"),
    (change("videos", height=...), "video 2: has no 'height'"),
    (change("videos", height=24.0), "video 2: 'height' must be of type int, not float"),
    (change("videos", height=0), "video 2: frames of 40 x 0 pixels"),
    (change("videos", height=10**9), "video 2: frames of 40 x 1000000000 pixels"),
    (change("videos", height=25), r"video clip02, annotation 2\d, frame \d: runs of size \(24, 40\), the image is"),
    (change("videos", file_names="clip02"), "video 2: 'file_names' must be of type list"),
    (change("videos", file_names=[]), "video 2, annotation 22: 5 segmentations for 0 frames"),
    (change("videos", file_names=["a/1.jpg"] * 5), "video 2: 5 frames, the names of two are equal"),
    (change("videos", file_names=[*"abcd", 5]), "video 2: '5' is no file name within"),
    (change("videos", file_names=[*"abcd", "../e"]), "video 2: '../e' is no file name within"),
    (change("videos", file_names=[*"abcd", "/e"]), "video 2: '/e' is no file name within"),
    (change("videos", file_names=[f"clip01/{t}" for t in range(5)]), "two videos have their frames in clip01/"),
    (change("annotations", id=12), "annotation number 1: the id 12 is taken already"),
    (change("annotations", id=None), "annotation number 1: 'id' must be of type int, not NoneType"),
    (change("annotations", video_id=77), "annotation 11: there is no video 77"),
    (change("annotations", video_id=...), "annotation 11: has no 'video_id'"),
    (change("annotations", segmentations=...), "video 1, annotation 11: has no 'segmentations'"),
    (change("annotations", segmentations=[None] * 4), "annotation 11: 4 segmentations for 5 frames"),
    (segmentation(5), "video clip01, annotation 11, frame 3: no segmentation"),
    (segmentation({"size": [24, 40]}), "video clip01, annotation 11, frame 3: no segmentation"),
    (segmentation({**GOOD, "size": [40, 24]}), r"annotation 11, frame 3: runs of size \(40, 24\)"),
    (segmentation({**GOOD, "counts": GOOD["counts"][:-2]}), "video clip01, annotation 11, frame 3: "),
    (segmentation({**GOOD, "counts": [900]}), "annotation 11, frame 3: .*runs of 900 pixels"),
    (segmentation({**GOOD, "counts": [1.5]}), "annotation 11, frame 3: "),
    (segmentation({**GOOD, "counts": "\u00e9"}), "annotation 11, frame 3: "),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=range(len(DAMAGE)))
def test_damaged_annotations_are_reported(
    tmp_path: Path, damage: Callable[[dict[str, Any]], object], message: str
) -> None:
    tree = ovis_tree(tmp_path)
    what = content()
    damage(what)
    (tree / "annotations_train.json").write_text(json.dumps(what))
    for single in (True, False):
        with pytest.raises(DataError, match=rf"annotations_train\.json: .*{message}") as error:
            ovis(tree, single=single)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100000])
def test_files_without_annotations_are_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "train.json").write_bytes(text)
    with pytest.raises(DataError, match=r"train\.json: (cannot be read as JSON|has no 'videos')"):
        ovis(tmp_path)
