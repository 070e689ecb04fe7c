from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.data.preparation.test_tree import coco_tree
from tests.data.tree import davis_tree, image, labels, save_image, save_mask
from tests.data.youtube_tree import youtube_tree
from voslab.cli.prepare import recipes
from voslab.core import DataError
from voslab.data.preparation.catalogue import coco, davis, ovis, youtube_vos
from voslab.data.preparation.completion import find_misplaced, next_step, unpack_found, unpack_given
from voslab.data.preparation.layout import DataSet
from voslab.data.preparation.tree import check


def packed(folder: Path, archive: Path, top: str = "") -> Path:
    """A zip of a folder, in a folder of that name."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, f"{top}{path.relative_to(folder)}")
    return archive


def run(data_set: DataSet, data: Path, archive: Path | None = None) -> tuple[int, list[str]]:
    said: list[str] = []
    if archive is not None:
        return unpack_given(archive, (data_set,), said.append, lambda done, total: None), said
    return unpack_found(data_set, data, said.append, lambda done, total: None), said


@pytest.mark.parametrize("place", ["", "downloads", "DAVIS"])
def test_official_archives_are_found_and_unpacked_once(place: str, tmp_path: Path) -> None:
    source, data = davis_tree(tmp_path / "source"), tmp_path / "data"
    archive = packed(source, data / place / "DAVIS-2017-trainval-480p.zip", "DAVIS/")
    data_set = davis(data / "DAVIS", ("train",))
    assert run(data_set, data) == (21, [f"{archive}: 21 files unpacked into {data_set.root}, 0 existed already"])
    assert check(data_set).complete
    assert run(data_set, data) == (0, [f"{archive}: nothing to unpack, DAVIS 2017 is complete"])
    (data_set.root / "JPEGImages/480p/bear/00001.jpg").unlink()
    assert run(data_set, data) == (1, [f"{archive}: 1 files unpacked into {data_set.root}, 20 existed already"])


def test_an_archive_whose_files_all_exist_is_not_unpacked_again(tmp_path: Path) -> None:
    source, data = davis_tree(tmp_path / "source"), tmp_path / "data"
    (source / "Annotations/480p/bear/00001.png").unlink()
    archive = packed(source, data / "DAVIS-2017-trainval-480p.zip", "DAVIS/")
    data_set = davis(data / "DAVIS", ("train",))
    run(data_set, data)
    assert run(data_set, data) == (0, [f"{archive}: nothing to unpack, all its files are in {data_set.root}"])


def test_files_that_differ_are_counted_and_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    old = davis_tree(data / "DAVIS", year=2016, mode="L")
    packed(davis_tree(tmp_path / "new"), data / "DAVIS-2017-trainval-480p.zip", "DAVIS/")
    before = (old / "Annotations/480p/bear/00000.png").read_bytes()
    _, (_, text) = run(davis(old, ("train",)), data)
    assert "10 files in" in text
    assert "differ and were not changed" in text
    assert (old / "Annotations/480p/bear/00000.png").read_bytes() == before
    assert "as in DAVIS 2016" in check(davis(old, ("train",))).faults[0]


def test_train_zip_is_identified_by_its_content(tmp_path: Path) -> None:
    data = tmp_path / "data"
    youtube, occluded = youtube_vos(data / "YouTube-VOS", ("train",)), ovis(data / "OVIS", ("train",))
    archive = packed(youtube_tree(tmp_path / "source") / "train", data / "downloads/train.zip", "train/")
    assert run(occluded, data) == (0, [])
    assert run(youtube, data)[0] > 0
    assert check(youtube).complete
    archive.unlink()
    save_image(tmp_path / "ovis/train/af48b2f9/img_0000001.jpg", image(0))
    packed(tmp_path / "ovis", data / "downloads/train.zip")
    assert run(occluded, data)[0] == 1
    assert (data / "OVIS/train/af48b2f9/img_0000001.jpg").is_file()


def test_releases_of_youtube_vos_do_not_mix(tmp_path: Path) -> None:
    data, tree = tmp_path / "data", youtube_tree(tmp_path / "source")
    data_set = youtube_vos(data / "YouTube-VOS", ("valid",))
    archive = packed(tree / "valid", data / "YouTube-VOS/valid.zip", "valid/")
    run(data_set, data)
    (data_set.root / "valid/meta.json").write_text(json.dumps({"videos": {"other": {"objects": {}}}}))
    with pytest.raises(
        DataError, match=r"valid\.zip: belongs to another release than .*meta\.json; put it into .*/2018/ or"
    ):
        run(data_set, data)
    (data_set.root / "2019").mkdir()
    archive.rename(data_set.root / "2019/valid.zip")
    assert run(data_set, data)[0] > 0
    assert check(youtube_vos(data / "YouTube-VOS", ("valid",), year=2019)).complete


def test_an_archive_of_unknown_name_is_identified_by_its_content(tmp_path: Path) -> None:
    data_set = coco(tmp_path / "COCO", ("train2017",))
    images = coco_tree(tmp_path / "source") / "train2017"
    assert run(data_set, tmp_path, packed(images, tmp_path / "mine.zip", "x/train2017/"))[0] == 3
    assert run(data_set, tmp_path, tmp_path / "mine.zip")[0] == 0
    assert run(data_set, tmp_path, packed(images.parent / "annotations", tmp_path / "a.zip"))[0] == 1
    assert check(data_set).complete
    other = packed(davis_tree(tmp_path / "davis"), tmp_path / "davis.zip")
    with pytest.raises(DataError, match=r"davis\.zip: has no file of COCO 2017; its first member is 'Anno"):
        run(data_set, tmp_path, other)
    with pytest.raises(DataError, match="no such archive"):
        run(data_set, tmp_path, tmp_path / "none.zip")


WRONG = {
    "one level too deep": "DAVIS/DAVIS",
    "beside": "",
    "unpacked by hand": "downloads/DAVIS-2017-trainval-480p/DAVIS",
    "in small letters": "davis",
    "as other projects have it": "DAVIS/2017/trainval",
}


@pytest.mark.parametrize("place", WRONG.values(), ids=WRONG.keys())
def test_misplaced_folders_get_commands_that_put_them_right(place: str, tmp_path: Path) -> None:
    data = tmp_path / "my data"
    davis_tree(data / place)
    if place.endswith("trainval"):
        davis_tree(data / "DAVIS/2017/test-dev", names=("other",))
        (data / "DAVIS/2017/test-dev/ImageSets/2017/train.txt").unlink()
    data_set = davis(data / "DAVIS", ("train",))
    moves = find_misplaced(data_set, check(data_set), data)
    assert moves
    step = next_step(data_set, check(data_set), moves, data)
    subprocess.run(step.replace("; ", " && "), shell=True, check=True)
    assert check(data_set).complete


@pytest.mark.parametrize("place", ["train/train", "images/train2017"])
def test_misplaced_folders_of_other_sets(place: str, tmp_path: Path) -> None:
    if place == "train/train":
        data_set = youtube_vos(tmp_path / "YouTube-VOS", ("train",))
        (youtube_tree(tmp_path / "source") / "train").rename(tmp_path / "inner")
        (tmp_path / "YouTube-VOS/train").mkdir(parents=True)
        (tmp_path / "inner").rename(tmp_path / "YouTube-VOS/train/train")
        subprocess.run(["rm", "-r", tmp_path / "source"], check=True)
    else:
        data_set = coco(coco_tree(tmp_path / "COCO"), ("train2017",))
        (tmp_path / "COCO/images").mkdir()
        (tmp_path / "COCO/train2017").rename(tmp_path / "COCO/images/train2017")
    for move in find_misplaced(data_set, check(data_set), tmp_path):
        subprocess.run(move.command, shell=True, check=True)
    assert check(data_set).complete


def test_another_data_set_is_not_taken_for_a_misplaced_one(tmp_path: Path) -> None:
    youtube_tree(tmp_path / "YouTube-VOS")
    data_set = ovis(tmp_path / "OVIS", ("train",))
    assert find_misplaced(data_set, check(data_set), tmp_path) == ()


def test_the_next_step_names_file_source_and_place(tmp_path: Path) -> None:
    def step(data_set: DataSet) -> str:
        return next_step(data_set, check(data_set), (), tmp_path)

    text = step(davis(tmp_path / "DAVIS", ("train",)))
    assert "download DAVIS-2017-trainval-480p.zip from https://" in text
    assert f"into {tmp_path}/downloads/" in text
    assert "annotations_trainval2017.zip" in step(coco(tmp_path / "COCO", ("train2017",)))
    coco_tree(tmp_path / "half", there=0)
    assert "train2017.zip" in step(coco(tmp_path / "half", ("train2017",)))
    assert f"put it at {tmp_path}/OVIS/annotations_train.json" in step(ovis(tmp_path / "OVIS", ("train",)))
    damaged = davis_tree(tmp_path / "damaged")
    save_mask(damaged / "Annotations/480p/bear/7.png", labels(0))
    assert step(davis(damaged, ("train",))).startswith("delete damaged files")


def test_recipes_are_those_of_the_configurations() -> None:
    assert "demo" in recipes("generated")
    assert "crvos_davis" in recipes("davis2016")
    assert recipes("none") == []
