from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.coco_tree import CORNER, SIZE, SQUARE, coco_tree, write
from voslab.core import DataError
from voslab.data import Augmentation, ClipSettings
from voslab.data.clips.pseudo import PseudoClips
from voslab.data.clips.random_motion import RandomMotion
from voslab.data.datamodule import VOSDataModule
from voslab.data.sources.coco import build_index, coco
from voslab.data.sources.stills import VOID_STILL


def test_images_with_large_enough_objects_count_and_groups_are_void(tmp_path: Path) -> None:
    found = coco(coco_tree(tmp_path), min_area=100)
    assert [found.load(i).name for i in range(len(found))] == ["000000000010", "000000000011"]
    expected = np.zeros(SIZE, int)
    expected[5:25, 10:30], expected[:4, :4] = 1, 2
    np.testing.assert_array_equal(found.load(0).labels, expected)
    expected[5:25, 10:30], expected[:4, :4] = 2, VOID_STILL
    np.testing.assert_array_equal(found.load(1).labels, expected)
    assert len(coco(tmp_path, min_area=16)) == 3


def test_the_smaller_object_lies_in_front(tmp_path: Path) -> None:
    inner = [[12, 7, 16, 7, 16, 11, 12, 11]]
    listed = [{"id": i, "image_id": 10, "segmentation": s} for i, s in enumerate((inner, SQUARE, inner[:1]))]
    labels = coco(coco_tree(tmp_path, listed), min_area=16).load(0).labels
    assert (labels[8, 13], labels[20, 20]) == (3, 2)


def test_the_index_is_built_once_and_anew_when_the_file_changes(tmp_path: Path) -> None:
    root, cache = coco_tree(tmp_path / "COCO"), tmp_path / "cache"
    first = coco(root, min_area=16, cache=cache)
    (file,) = cache.iterdir()
    stamp = file.stat().st_mtime_ns
    again = coco(root, min_area=16, cache=cache)
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [stamp]
    for place in range(3):
        np.testing.assert_array_equal(first.load(place).labels, again.load(place).labels)
    annotations = root / "annotations" / "instances_train2017.json"
    os.utime(annotations, ns=(1, 1))
    coco(root, min_area=16, cache=cache)
    assert len(list(cache.iterdir())) == 2
    file.write_bytes(file.read_bytes()[:100])
    write(root, json.loads(annotations.read_text()))
    os.utime(annotations, ns=(1, 1))
    assert len(coco(root, min_area=16, cache=cache)) == 3


def test_three_hundred_objects_in_one_image(tmp_path: Path) -> None:
    listed = [
        {"id": i, "image_id": 10, "segmentation": [[x, y, x + 2, y, x + 2, y + 2, x, y + 2]]}
        for i in range(300)
        for x, y in [(2 * (i % 30), 2 * (i // 30))]
    ]
    labels = coco(coco_tree(tmp_path, listed), min_area=1).load(0).labels
    assert np.unique(labels).tolist() == list(range(301))
    assert (labels > 0).sum() == 1200


def test_missing_images_are_reported_or_skipped(tmp_path: Path) -> None:
    root = coco_tree(tmp_path)
    (root / "train2017" / "000000000011.jpg").unlink()
    with pytest.raises(DataError, match=r"000000000011\.jpg: missing, and 0 more of the 2 images"):
        coco(root, min_area=100)
    assert len(coco(root, min_area=100, subset=True)) == 1
    (root / "train2017" / "000000000010.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"000000000010\.jpg"):
        coco(root, min_area=100, subset=True).load(0)


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    root = coco_tree(tmp_path)
    content = json.loads((root / "annotations" / "instances_train2017.json").read_text())
    content["images"][0]["width"], content["annotations"] = 61, content["annotations"][:1]
    write(root, content)
    with pytest.raises(DataError, match=r"000000000010\.jpg: 60 x 40 pixels, its annotations say 61 x 40"):
        coco(root, min_area=100).load(0)


IMAGE = {"id": 10, "file_name": "a.jpg", "height": 40, "width": 60}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a COCO instances file"),
        ([], "not a COCO instances file"),
        ({"images": []}, "lacks 'annotations'"),
        ({"images": [{**IMAGE, "file_name": "../a.jpg"}], "annotations": []}, "must not have a folder"),
        ({"images": [IMAGE, IMAGE], "annotations": []}, "two images have the same id"),
        ({"images": [IMAGE], "annotations": [{"id": 1, "image_id": 99, "segmentation": SQUARE}]}, "lacks 99"),
        ({"images": [IMAGE], "annotations": [{"id": 7, "image_id": 10}]}, "annotation 7: no segmentation"),
        ({"images": [IMAGE], "annotations": [{"id": 7, "image_id": 10, "segmentation": [[1, 2]]}]}, "annotation 7: "),
        (
            {"images": [IMAGE], "annotations": [{"id": 7, "image_id": 10, "segmentation": {**CORNER, "size": [1, 1]}}]},
            r"annotation 7: runs of size \(1, 1\)",
        ),
    ],
)
def test_damaged_annotations_are_refused(tmp_path: Path, content: object, message: str) -> None:
    write(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        build_index(tmp_path / "annotations" / "instances_train2017.json")
    assert "instances_train2017.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folders_and_empty_data_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        coco(tmp_path)
    root = coco_tree(tmp_path)
    with pytest.raises(DataError, match="no image with an object of 9999 pixels"):
        coco(root, min_area=9999)
    (root / "annotations" / "instances_train2017.json").unlink()
    with pytest.raises(DataError, match="no such file"):
        coco(root)


def test_clips_do_not_depend_on_workers(tmp_path: Path) -> None:
    root = coco_tree(tmp_path / "COCO", images=3)
    settings = ClipSettings(Augmentation((48, 64), jitter=0.1), frames=3, max_objects=3, min_area=20)
    batches = []
    for workers in (0, 1, 2):
        source = PseudoClips(
            partial(coco, root, min_area=16, cache=tmp_path / "cache"), (48, 64), RandomMotion(warp=0.5)
        )
        module = VOSDataModule(settings, source, batch_size=2, num_workers=workers, clips_per_epoch=8)
        module.setup("fit")
        batches.append([(clip.images, clip.labels, clip.names) for clip in module.train_dataloader()])
    assert len(batches[0]) == 4
    for other in batches[1:]:
        for (images, labels, names), (images_too, labels_too, names_too) in zip(batches[0], other, strict=True):
            assert torch.equal(images, images_too)
            assert torch.equal(labels, labels_too)
            assert names == names_too


def test_the_real_tree(vos_data: Path) -> None:
    root = vos_data / "COCO"
    if not root.is_dir():
        pytest.skip("COCO is not there")
    index = build_index(root / "annotations" / "instances_train2017.json")
    assert (len(index.names), len(index.areas)) == (1421, 2222)
    found = coco(root)
    for place in range(0, len(found), 97):
        still = found.load(place)
        assert (np.bincount(still.labels[still.labels > 0])[1:].max()) >= 1000
