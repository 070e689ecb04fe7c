from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.preparation.test_tree import coco_tree
from tests.data.tree import davis_tree, image, labels, save_image, save_mask
from voslab.data.preparation.catalogue import coco, davis, folder, generated, stills
from voslab.data.preparation.layout import DataSet
from voslab.data.preparation.verification import verify


def test_a_whole_data_set(tmp_path: Path) -> None:
    seen: list[int] = []
    data_set = davis(davis_tree(tmp_path), ("train",))
    assert verify(data_set, decode=False, progress=seen.append) == ()
    assert verify(data_set, decode=True) == ()
    assert seen == [10]


def test_wrong_sizes_and_headers_are_found_without_decoding(tmp_path: Path) -> None:
    root = davis_tree(tmp_path)
    save_mask(root / "Annotations/480p/bear/00001.png", labels(0, (20, 40)))
    (root / "JPEGImages/480p/bear/00003.jpg").write_bytes(b"not a image")
    (root / "Annotations/480p/camel/00000.png").write_bytes(b"")
    size, damaged, empty = verify(davis(root, ("train",)), decode=False)
    assert size == f"{root}/Annotations/480p/bear/00001.png: 40 x 20 pixels, its frame 40 x 24"
    assert damaged.startswith(f"{root}/JPEGImages/480p/bear/00003.jpg: not an image")
    assert empty.startswith(f"{root}/Annotations/480p/camel/00000.png: not an image")


def test_decoding_finds_truncated_images(tmp_path: Path) -> None:
    root = davis_tree(tmp_path)
    for name in ("JPEGImages/480p/bear/00002.jpg", "Annotations/480p/camel/00004.png"):
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) - 30])
    data_set = davis(root, ("train",))
    assert verify(data_set, decode=False) == ()
    first, second = verify(data_set, decode=True)
    assert "bear/00002.jpg" in first
    assert "camel/00004.png" in second


def test_sizes_that_annotations_declare(tmp_path: Path) -> None:
    root = coco_tree(tmp_path, listed=4, there=3)
    save_image(root / f"train2017/{1:012}.jpg", image(0, (24, 44)))
    [fault] = verify(coco(root, ("train2017",)), decode=False)
    assert fault.endswith("000000000001.jpg: 44 x 24 pixels, its annotations say 40 x 24")


def own(root: Path) -> DataSet:
    save_image(root / "frames/a/0.jpg", image(0))
    save_mask(root / "masks/a/0.png", labels(0, (8, 40)))
    return folder(root, ())


def flat(root: Path) -> DataSet:
    save_image(root / "x/0.jpg", image(0))
    save_mask(root / "x/0.png", labels(0, (8, 40)))
    return stills(root, ("",))


@pytest.mark.parametrize("make", [own, flat])
def test_masks_of_other_layouts_must_fit_too(make: object, tmp_path: Path) -> None:
    assert callable(make)
    [fault] = verify(make(tmp_path), decode=False)
    assert fault.endswith("0.png: 40 x 8 pixels, its frame 40 x 24")


def test_an_empty_data_set_has_no_faults(tmp_path: Path) -> None:
    for data_set in (davis(tmp_path, ("train",)), coco(tmp_path, ("train2017",)), stills(tmp_path, ("",))):
        assert verify(data_set, decode=True) == ()
    assert verify(generated(tmp_path, ()), decode=True) == ()
