from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.tree import davis_tree, image, labels, save_image, save_mask
from tests.data.youtube_tree import youtube_tree
from voslab.core import DataError
from voslab.data.preparation.catalogue import coco, davis, folder, generated, ovis, stills, youtube_vos
from voslab.data.preparation.layout import CheckResult, State
from voslab.data.preparation.tree import check


def texts(found: CheckResult) -> dict[str, tuple[str, str]]:
    return {line.path: (line.state.value, line.text) for line in found.entries}


FRAMES, MASKS = "JPEGImages/480p/<sequence>/*.jpg", "Annotations/480p/<sequence>/*.png"


def test_davis_as_released(tmp_path: Path) -> None:
    found = check(davis(davis_tree(tmp_path), ("train",)))
    assert found.complete
    assert texts(found) == {
        "ImageSets/2017/train.txt": ("present", "2 sequences, officially 60"),
        FRAMES: ("present", "10 frames, 2 of 2 sequences"),
        MASKS: ("present", "10 masks, 2 of 2 sequences"),
    }
    assert check(davis(davis_tree(tmp_path / "old", year=2016), ("train",), 2016)).complete


def test_official_numbers_are_those_of_all_sequences(tmp_path: Path) -> None:
    names = tuple(f"s{number:02}" for number in range(30))
    found = check(davis(davis_tree(tmp_path, names, frames=1, year=2016), ("train",), 2016))
    assert texts(found)[FRAMES] == ("partial", "30 of 2,079 frames, 30 of 30 sequences")
    assert not found.complete


def test_an_empty_folder_is_absent(tmp_path: Path) -> None:
    found = check(davis(tmp_path / "none", ("train", "val")))
    assert found.absent
    assert {line.state for line in found.entries} == {State.MISSING}
    assert found.missing == (
        *("ImageSets/2017/train.txt", "ImageSets/2017/val.txt"),
        *("JPEGImages/480p", "Annotations/480p"),
    )


def test_missing_frames_and_masks_are_listed(tmp_path: Path) -> None:
    root = davis_tree(tmp_path, names=("ant", "bee", "cow"))
    for name in ("JPEGImages/480p/ant/00001.jpg", "Annotations/480p/bee/00002.png", "Annotations/480p/bee/00003.png"):
        (root / name).unlink()
    for path in [*root.glob("*/480p/cow/*")]:
        path.unlink()
    found = check(davis(root, ("train",)))
    assert found.faults == (
        "JPEGImages/480p/ant: missing frames: 00001",
        "Annotations/480p/bee: missing masks: 00002, 00003",
        "JPEGImages/480p: no frames of cow",
        "Annotations/480p: no masks of cow",
    )
    assert texts(found)[FRAMES] == ("partial", "9 frames, 2 of 3 sequences")
    assert not found.complete
    assert not found.absent


def test_test_dev_needs_the_first_mask_only(tmp_path: Path) -> None:
    root = davis_tree(tmp_path)
    (root / "ImageSets/2017/train.txt").rename(root / "ImageSets/2017/test-dev.txt")
    for path in root.glob("Annotations/480p/*/0000[1-4].png"):
        path.unlink()
    assert check(davis(root, ("test-dev",))).complete
    (root / "Annotations/480p/bear/00000.png").rename(root / "Annotations/480p/bear/00003.png")
    assert check(davis(root, ("test-dev",))).faults == ("Annotations/480p/bear: missing masks: 00000",)


def test_masks_of_2016_are_not_those_of_2017(tmp_path: Path) -> None:
    root = davis_tree(tmp_path, year=2016, mode="L")
    (root / "ImageSets/2017").mkdir()
    (root / "ImageSets/2017/train.txt").write_text("bear\ncamel\n")
    [fault] = check(davis(root, ("train",))).faults
    assert "Annotations/480p: black and white masks, as in DAVIS 2016, in 2 sequences (bear/00000.png" in fault
    assert check(davis(root, ("train",), 2016)).complete


@pytest.mark.parametrize(("text", "fault"), [("", "names no sequence"), ("\udcff", "cannot be read")])
def test_damaged_lists(text: str, fault: str, tmp_path: Path) -> None:
    root = davis_tree(tmp_path)
    (root / "ImageSets/2017/train.txt").write_text(text, errors="surrogateescape")
    found = check(davis(root, ("train",)))
    assert fault in found.faults[0]
    assert texts(found)["ImageSets/2017/train.txt"][0] == "partial"


def test_a_data_set_without_lists_is_incomplete(tmp_path: Path) -> None:
    root = davis_tree(tmp_path)
    found = check(davis(root, ("val",)))
    assert texts(found)[FRAMES] == ("partial", "2 sequences found; the lists of required sequences are missing")
    assert found.missing == ("ImageSets/2017/val.txt",)


def test_youtube_vos(tmp_path: Path) -> None:
    root = youtube_tree(tmp_path)
    for splits in (("train",), ("valid",), ("valid_all_frames",), ("train_all_frames", "train")):
        assert check(youtube_vos(root, splits)).complete, splits
    name = next((root / "train/Annotations").iterdir())
    lost = sorted(name.iterdir())[-1]
    lost.unlink()
    assert check(youtube_vos(root, ("train",))).faults == (
        f"train/Annotations/{name.name}: missing masks: {lost.stem}",
    )
    (root / "train/meta.json").write_text('{"videos": []}')
    assert "meta.json: cannot be read" in check(youtube_vos(root, ("train",))).faults[0]


def coco_tree(root: Path, listed: int = 3, there: int = 3) -> Path:
    for number in range(there):
        save_image(root / f"train2017/{number:012}.jpg", image(number))
    images = [{"id": n, "file_name": f"{n:012}.jpg", "height": 24, "width": 40} for n in range(listed)]
    annotations = [{"id": n, "image_id": n, "segmentation": [[1, 1, 9, 1, 9, 9]], "iscrowd": 0} for n in range(listed)]
    (root / "annotations").mkdir(parents=True)
    path = root / "annotations/instances_train2017.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    return root


def test_a_part_of_coco_with_annotations_of_its_own(tmp_path: Path) -> None:
    found = check(coco(coco_tree(tmp_path), ("train2017",)))
    assert found.complete
    assert texts(found) == {
        "annotations/instances_train2017.json": ("present", "3 images of the official 118,287, 3 objects"),
        "train2017/*.jpg": ("present", "3 of 3 images"),
    }


def test_coco_with_missing_images(tmp_path: Path) -> None:
    root = coco_tree(tmp_path, listed=5, there=2)
    found = check(coco(root, ("train2017",)))
    assert texts(found)["train2017/*.jpg"] == ("partial", "2 of 5 images")
    [fault] = found.faults
    assert fault.startswith("train2017/: 3 of 5 images in annotations/instances_train2017.json are missing: ")
    assert fault.endswith(": 000000000002.jpg, 000000000003.jpg, 000000000004.jpg")
    assert check(coco(root, ("train2017",), subset=True)).complete
    (root / "annotations/instances_train2017.json").write_text("{")
    assert "cannot be read as annotations" in check(coco(root, ("train2017",))).faults[0]
    (root / "annotations/instances_train2017.json").unlink()
    assert check(coco(root, ("train2017",))).missing == ("annotations/instances_train2017.json",)


@pytest.mark.parametrize("place", ["annotations_train.json", "annotations/annotations_train.json"])
@pytest.mark.parametrize("frames", ["train", "train/JPEGImages"])
def test_ovis(place: str, frames: str, tmp_path: Path) -> None:
    names = [f"af48b2f9/img_{number:07}.jpg" for number in (1, 2)]
    videos = [{"id": 1, "height": 24, "width": 40, "length": 2, "file_names": names}]
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(json.dumps({"videos": videos, "annotations": [{"id": 1}]}))
    save_image(tmp_path / frames / names[0], image(0))
    assert "1 of 2 images" in check(ovis(tmp_path, ("train",))).faults[0]
    save_image(tmp_path / frames / names[1], image(1))
    assert check(ovis(tmp_path, ("train",))).complete


def test_stills(tmp_path: Path) -> None:
    assert check(stills(tmp_path, ("",))).absent
    for number in range(2):
        save_image(tmp_path / f"DUTS-TR/DUTS-TR-Image/{number}.jpg", image(number))
        save_mask(tmp_path / f"DUTS-TR/DUTS-TR-Mask/{number}.png", labels(0), "L")
        save_image(tmp_path / f"mine/{number}.jpg", image(number))
        save_mask(tmp_path / f"mine/{number}.png", labels(0), "L")
    found = check(stills(tmp_path, ("",)))
    assert found.complete
    assert texts(found)["DUTS-TR/"] == ("present", "2 of 10,553 images with masks")
    assert texts(found)["mine/"] == ("present", "2 images with masks")
    assert texts(found)["ECSSD/"][0] == "optional"


def test_own_videos(tmp_path: Path) -> None:
    assert check(folder(tmp_path, ("train", "val"))).missing == ("frames", "masks")
    save_image(tmp_path / "frames/a/0.jpg", image(0))
    save_mask(tmp_path / "masks/a/0.png", labels(0))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/b.mp4").touch()
    (tmp_path / "train.txt").write_text("a\n")
    found = check(folder(tmp_path, ("train", "val")))
    assert found.complete
    assert texts(found)["train.txt"] == ("present", "1 video")
    assert texts(found)["val.txt"] == ("optional", "missing: all videos are used")
    save_mask(tmp_path / "masks/c.png", np.zeros((4, 4), np.uint8))
    assert check(folder(tmp_path, ())).faults == ("masks: no video exists for the masks of c",)


def test_generated_videos_are_made_on_first_use(tmp_path: Path) -> None:
    found = check(generated(tmp_path, ("train",)))
    assert found.complete
    assert not found.absent


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = davis_tree(tmp_path)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"480p/bear: cannot be listed \(Permission denied\)"):
        check(davis(root, ("train",)))
