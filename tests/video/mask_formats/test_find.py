"""Which file is the mask of which frame and object: folders of frames, of objects, and annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voslab.core import DataError
from voslab.video import MaskOptions, given_masks, read_masks, write_mask
from voslab.video.mask_formats.frame_names import FrameNames
from voslab.video.mask_formats.rle import encode

SIZE = (40, 60)
SQUARE = [[10, 5, 30, 5, 30, 25, 10, 25]]
OTHER = [[40, 10, 55, 10, 55, 30, 40, 30]]


def box(left: int, top: int, right: int, bottom: int, value: int = 255) -> np.ndarray:
    labels = np.zeros(SIZE, np.int32)
    labels[top:bottom, left:right] = value
    return labels


LEFT, RIGHT = box(10, 5, 30, 25), box(40, 10, 55, 30)
BOTH = np.where(LEFT, 1, np.where(RIGHT, 2, 0))


@pytest.mark.parametrize(
    ("names", "stem", "index"),
    [
        (None, "00012", 12),
        (None, "frame_000012", 12),
        (None, "IMG-7", 7),
        (None, "dog", None),
        (None, "mask_2", None),
        (("00000001", "00000006"), "00000006", 1),
        (("00000001", "00000006"), "6", 1),
        (("00000001", "00000006"), "00002", None),
        (("00000001", "00000006"), "frame_00006", 1),
        (("frame0001", "frame0002"), "frame0002", 1),
        (("frame0001", "frame0002"), "2", 1),
        (("frame0001", "frame0002"), "0", None),
        (("shot_a", "shot_b"), "00001", 1),
    ],
)
def test_names_stand_for_frames(names: tuple[str, ...] | None, stem: str, index: int | None) -> None:
    assert FrameNames(names).find(stem) == index


@pytest.mark.parametrize("names", [("001", "002"), ("object_1", "object_2"), ("cup", "hand")])
def test_folders_of_objects(tmp_path: Path, names: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
    write_mask(tmp_path / names[0] / "00000.png", LEFT)
    write_mask(tmp_path / names[1] / "00000.png", RIGHT)
    write_mask(tmp_path / names[1] / "00004.png", RIGHT)
    masks = read_masks(tmp_path)
    assert list(masks) == [0, 4]
    assert np.array_equal(masks[0], BOTH)
    assert np.array_equal(masks[4], np.where(RIGHT, 2, 0))
    assert f"1 = {names[0]}, 2 = {names[1]}" in caplog.text


@pytest.mark.parametrize(
    ("names", "frame"),
    [(("cup", "hand"), 0), (("obj1", "obj2"), 0), (("00003_obj1", "00003_obj2"), 3), (("3-id 1", "3-id 2"), 3)],
)
def test_files_of_objects(tmp_path: Path, names: tuple[str, str], frame: int) -> None:
    for name, mask in zip(names, (LEFT, RIGHT), strict=True):
        write_mask(tmp_path / f"{name}.png", mask)
    masks = read_masks(tmp_path)
    assert list(masks) == [frame]
    assert np.array_equal(masks[frame], BOTH)


def test_objects_that_overlap_or_are_several(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_mask(tmp_path / "1" / "0.png", LEFT)
    write_mask(tmp_path / "2" / "0.png", box(20, 5, 50, 25))
    mask = read_masks(tmp_path)[0]
    assert (mask[10, 15], mask[10, 25]) == (1, 2)
    assert "objects overlap on 200 pixels" in caplog.text
    write_mask(tmp_path / "2" / "0.png", BOTH)
    with pytest.raises(DataError, match="2 objects, in a file that stands for object 2"):
        read_masks(tmp_path)[0]
    write_mask(tmp_path / "2" / "0.png", np.ones((9, 9), np.uint8))
    with pytest.raises(DataError, match="the mask is 9 x 9, that of another object of this frame 60 x 40"):
        read_masks(tmp_path)[0]


def test_colours_have_the_same_id_in_all_frames(tmp_path: Path) -> None:
    from PIL import Image

    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    for frame, colours in ((0, (red, green)), (3, (blue, red))):
        image = np.zeros((*SIZE, 3), np.uint8)
        image[LEFT > 0], image[RIGHT > 0] = colours
        Image.fromarray(image).save(tmp_path / f"{frame}.png")
    masks = read_masks(tmp_path, options=MaskOptions("any"))
    later, first = masks[3], masks[0]
    assert (first[10, 15], first[15, 45]) == (2, 1)
    assert (later[10, 15], later[15, 45]) == (3, 2)


def test_arrays_and_files_give_the_same_masks(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.where(LEFT, 255, 3))
    options = MaskOptions(void=255, resize=True)
    masks = given_masks({0: tmp_path / "a.png", 2: np.where(LEFT, 255, 3)}, (20, 30), options)
    assert np.array_equal(masks[0], masks[2])
    assert masks[0].shape == (20, 30)
    assert set(np.unique(masks[2])) == {0, 3}


def coco(*annotations: dict[str, Any], images: int = 1, **image: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": 7 + i, "file_name": f"clips\\a/{3 * i:05d}.jpg", "height": SIZE[0], "width": SIZE[1], **image}
            for i in range(images)
        ],
        "categories": [{"id": 3, "name": "dog"}, {"id": 9, "name": "cat"}],
        "annotations": [{"id": i, "image_id": 7, "category_id": 3, **one} for i, one in enumerate(annotations)],
    }


RUNS = {"size": list(SIZE), "counts": encode(RIGHT > 0)}


POLYGON = {"shape_type": "polygon"}


def labelme(*shapes: dict[str, Any], **more: Any) -> dict[str, Any]:
    points = [[10, 5], [30, 5], [30, 25], [10, 25]]
    return {
        "version": "5.4.1",
        "shapes": [
            {"label": "dog", "points": points, "group_id": None, "shape_type": "polygon", **one} for one in shapes
        ],
        "imagePath": "..\\frames\\00000.jpg",
        "imageData": None,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
        **more,
    }


def save(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


RECTANGLE = {"shape_type": "rectangle", "points": [[55, 30], [40, 10]]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", coco({"segmentation": SQUARE}, {"segmentation": OTHER})),
        ("a.json", coco({"segmentation": SQUARE}, {"segmentation": RUNS, "iscrowd": 1}, {"bbox": [1, 2, 3, 4]})),
        ("a.json", labelme({}, {"label": "cat", **RECTANGLE}, {"shape_type": "point", "points": [[1, 1]]})),
        (
            "a.txt",
            "0 .16667 .125 .5 .125 .5 .625 .16667 .625\n\n1 .66667 .25 .91667 .25 .91667 .75 .66667 .75\n",
        ),
    ],
    ids=["polygons", "rle", "labelme", "yolo"],
)
def test_annotations_are_masks(tmp_path: Path, name: str, content: Any, caplog: pytest.LogCaptureFixture) -> None:
    masks = read_masks(save(tmp_path / name, content), size=SIZE)
    assert list(masks) == [0]
    assert (masks[0] != BOTH).mean() < 0.01
    assert set(np.unique(masks[0])) == {0, 1, 2}
    assert "objects 1 = " in caplog.text


def test_ids_that_annotations_state_are_kept(tmp_path: Path) -> None:
    content = coco({"segmentation": SQUARE, "track_id": 12}, {"segmentation": OTHER, "attributes": {"track_id": 4}})
    assert set(np.unique(read_masks(save(tmp_path / "a.json", content), size=SIZE)[0])) == {0, 4, 12}


def test_annotations_of_several_frames(tmp_path: Path) -> None:
    later = {"segmentation": OTHER, "image_id": 8}
    content = coco({"segmentation": SQUARE}, {**later, "category_id": 9}, {**later, "segmentation": SQUARE}, images=2)
    masks = read_masks(save(tmp_path / "a.json", content), size=SIZE)
    assert list(masks) == [0, 3]
    assert set(np.unique(masks[0])) == {0, 1}
    assert (masks[3][15, 45], masks[3][15, 20]) == (2, 1)
    with pytest.raises(DataError, match=r"several objects of one category.*track_id"):
        read_masks(save(tmp_path / "b.json", coco({"segmentation": SQUARE}, later, later, images=2)), size=SIZE)
    for frame in (0, 2):
        save(tmp_path / "folder" / f"{frame:05d}.json", labelme({"group_id": 1}, {"group_id": 2, **RECTANGLE}))
        (tmp_path / "folder" / f"{frame:05d}.jpg").touch()
    masks = read_masks(tmp_path / "folder", size=SIZE)
    assert list(masks) == [0, 2]
    assert np.array_equal(masks[0], masks[2])
    for frame in (1, 4):
        save(tmp_path / "yolo" / f"frame_{frame:06d}.txt", "5 .2 .2 .5 .2 .5 .6\n2 .7 .2 .9 .2 .9 .6\n")
    assert list(read_masks(tmp_path / "yolo", size=SIZE)) == [1, 4]


def test_annotations_go_by_the_names_of_the_images(tmp_path: Path) -> None:
    path = save(tmp_path / "a.json", coco({"segmentation": SQUARE}, file_name="b.png"))
    assert list(read_masks(path, names=("a", "b"), size=SIZE)) == [1]
    assert list(read_masks(path, names=("x", "y"), size=SIZE)) == [0]


def test_parts_of_an_object_are_one_object(tmp_path: Path) -> None:
    masks = read_masks(save(tmp_path / "a.json", coco({"segmentation": [*SQUARE, *OTHER]})), size=SIZE)
    assert set(np.unique(masks[0])) == {0, 1}
    group = labelme({"group_id": 5}, {"group_id": 5, **RECTANGLE})
    masks = read_masks(save(tmp_path / "b.json", group), size=SIZE)
    assert masks[0][15, 45] == masks[0][15, 20] == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[1]", "a list, neither COCO nor LabelMe"),
        ("a.json", "{", "invalid JSON"),
        ("a.json", {"a": 1}, "neither COCO nor LabelMe annotations"),
        ("a.json", '{"images": 1, "images": 2}', "occurs twice"),
        ("a.json", coco(), "there is no object in it"),
        ("a.json", coco({"segmentation": [[1, 2]]}), "object 1 .dog.: no segmentation"),
        (
            "a.json",
            coco({"segmentation": SQUARE}, height=20),
            "the mask is 60 x 20, the video 60 x 40; mask_resize=true",
        ),
        ("a.json", coco({"segmentation": SQUARE}, height=10**9, width=10**9), "mask_resize=true"),
        ("a.json", coco({"segmentation": SQUARE, "image_id": 99}), "lacks 99, or belongs to no image"),
        ("a.json", coco({"segmentation": SQUARE}, file_name=3), "not COCO annotations"),
        ("a.json", labelme({"points": 3}), "not LabelMe annotations"),
        ("a.json", labelme({"shape_type": "point"}), "no object"),
        ("a.json", labelme({}, imageHeight=-1), "not LabelMe annotations .*the image size -1"),
        ("a.txt", "0 .5 .5 .2 .2\n", "line 1: a box; objects need polygons"),
        ("a.txt", "dog 1 2\n", "line 1: not a class and coordinates"),
        ("a.txt", "0 .1 .1 .2 .2 .3\n", "5 coordinates; a polygon has three or more pairs"),
        ("a.txt", "0 10 10 20 20 30 10\n", "fractions of the image, from 0 to 1"),
        ("a.txt", "0 nan .1 .2 .2 .3 .1\n", "fractions of the image, from 0 to 1"),
        ("a.txt", "", "no object"),
    ],
)
def test_wrong_annotations_are_one_line(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = save(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as error:
        dict(read_masks(path, size=SIZE))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_huge_image_is_refused_where_it_would_be_scaled(tmp_path: Path) -> None:
    path = save(tmp_path / "a.json", coco({"segmentation": SQUARE}, height=10**6, width=10**6))
    with pytest.raises(DataError, match="the image is"):
        read_masks(path, size=SIZE, options=MaskOptions(resize=True))[0]


def test_polygons_in_fractions_need_the_size_of_the_video(tmp_path: Path) -> None:
    path = save(tmp_path / "a.txt", "0 .2 .2 .5 .2 .5 .6\n")
    with pytest.raises(DataError, match="unknown size; give the video as a file or folder"):
        read_masks(path)[0]
