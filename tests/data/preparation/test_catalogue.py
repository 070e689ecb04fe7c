from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from voslab.cli.arguments import CONFIGS
from voslab.cli.entry import plain
from voslab.data.preparation.catalogue import all_data_sets, configured_data_sets
from voslab.data.preparation.layout import AnnotatedImages, VideoFolders

NAMES = sorted(path.stem for path in (CONFIGS / "data").glob("*.yaml"))


def titles(name: str, *overrides: str) -> list[str]:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return [one.title for one in configured_data_sets(plain(compose("prepare", [f"data={name}", *overrides]).data))]


@pytest.mark.parametrize("name", NAMES)
def test_every_configuration_is_understood(name: str) -> None:
    assert titles(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("davis2016", ["DAVIS 2016"]),
        ("davis2017_1080p", ["DAVIS 2017"]),
        ("davis2016_2k", ["DAVIS 2016"]),
        ("coco", ["COCO 2017", "DAVIS 2016"]),
        ("generated", ["generated videos"]),
    ],
)
def test_data_sets_of_a_configuration(name: str, expected: list[str]) -> None:
    assert titles(name) == expected


def test_splits_of_a_data_set_come_together_and_roots_are_the_configurations() -> None:
    source = {"_target_": "voslab.data.sources.davis.davis", "root": "/a/DAVIS", "year": 2016}
    config = {
        "train": [{"source": {**source, "split": "train"}}],
        "val": {**source, "split": "val"},
        "test": {**source, "split": "val"},
        "other": {**source, "root": "/b", "split": "val"},
        "model": {"_target_": "voslab.data.clips.sampling.Curriculum", "root": "/c"},
    }
    first, second = configured_data_sets(config)
    assert (first.root, second.root) == (Path("/a/DAVIS"), Path("/b"))
    [part] = first.components
    assert isinstance(part, VideoFolders)
    assert [names.paths for names in part.lists] == [
        ("ImageSets/2016/train.txt", "ImageSets/480p/train.txt"),
        ("ImageSets/2016/val.txt", "ImageSets/480p/val.txt"),
    ]
    assert sum(names.frames or 0 for names in part.lists) == 3455


PLACES = [
    ("davis2016", "DAVIS-data.zip", "DAVIS/Annotations/480p/bear/00000.png", "Annotations/480p/bear/00000.png"),
    ("davis2016", "DAVIS-data.zip", "DAVIS/README.md", None),
    ("davis2017", "DAVIS-2017-trainval-480p.zip", "DAVIS/ImageSets/2016/val.txt", "ImageSets/2016/val.txt"),
    ("davis2017", "DAVIS-2017-trainval-480p.zip", "__MACOSX/DAVIS/ImageSets/2016/._val.txt", None),
    ("davis2017", "DAVIS-2017-trainval-480p.zip", "DAVIS/JPEGImages/480p/.DS_Store", None),
    ("davis2017_testdev", "DAVIS-2017-test-dev-480p.zip", "JPEGImages/480p/a/1.jpg", "JPEGImages/480p/a/1.jpg"),
    ("youtube_vos", "train.zip", "train/meta.json", "train/meta.json"),
    ("youtube_vos", "train.zip", "JPEGImages/0a/00005.jpg", "train/JPEGImages/0a/00005.jpg"),
    ("youtube_vos_valid", "valid.zip", "valid/Annotations/0a/00005.png", "valid/Annotations/0a/00005.png"),
    (
        *("youtube_vos_valid", "valid_all_frames.zip"),
        *("valid/JPEGImages/0a/00001.jpg", "valid_all_frames/JPEGImages/0a/00001.jpg"),
    ),
    ("ovis", "train.zip", "OVIS/train/af48b2f9/img_0000001.jpg", "train/af48b2f9/img_0000001.jpg"),
    ("ovis", "train.zip", "train/JPEGImages/0a/00005.jpg", None),
    ("coco", "train2017.zip", "train2017/000000000009.jpg", "train2017/000000000009.jpg"),
    ("coco", "annotations_trainval2017.zip", "annotations/captions_train2017.json", None),
    (
        *("coco", "annotations_trainval2017.zip"),
        *("annotations/instances_train2017.json", "annotations/instances_train2017.json"),
    ),
    ("stills", "DUTS-TR.zip", "DUTS-TR/DUTS-TR-Mask/a.png", "DUTS-TR/DUTS-TR-Mask/a.png"),
    ("stills", "images.zip", "images/0001.jpg", "ECSSD/images/0001.jpg"),
    ("stills", "ground_truth_mask.zip", "ground_truth_mask/0001.png", "ECSSD/ground_truth_mask/0001.png"),
    ("stills", "fewshot_data.zip", "fewshot_data/fewshot_data/ab_wheel/1.png", "FSS-1000/ab_wheel/1.png"),
]


@pytest.mark.parametrize(("name", "archive", "member", "place"), PLACES)
def test_where_members_of_official_archives_go(name: str, archive: str, member: str, place: str | None) -> None:
    [kind] = [one for one in all_data_sets(Path("data"), Path("cache"))[name].archives if one.name == archive]
    assert kind.destination(member) == place
    if place is not None:
        assert place.startswith(kind.provides)


def test_every_data_set_says_where_it_comes_from() -> None:
    for name, data_set in all_data_sets(Path("data"), Path("cache")).items():
        assert name in NAMES
        if name not in {"folder", "generated"}:
            assert data_set.page.startswith("http")
            assert data_set.licence
            assert all(archive.url.startswith("http") for archive in data_set.archives)


@pytest.mark.parametrize("split", ["train", "train_all_frames"])
def test_youtube_vos_of_a_year(split: str, tmp_path: Path) -> None:
    source = {"_target_": "voslab.data.sources.youtube_vos.youtube_vos", "root": str(tmp_path), "split": split}
    assert configured_data_sets(source)[0].root == tmp_path
    (tmp_path / "2019" / split).mkdir(parents=True)
    assert configured_data_sets(source)[0].root == tmp_path / "2019"
    assert configured_data_sets({**source, "year": 2018})[0].root == tmp_path / "2018"
    (tmp_path / split).mkdir()
    assert configured_data_sets({**source, "year": None})[0].root == tmp_path


def test_a_subset_of_coco_can_be_configured() -> None:
    [data_set] = configured_data_sets(
        {"_target_": "voslab.data.sources.coco.coco", "root": "COCO", "split": "val2017", "subset": True}
    )
    [part] = data_set.components
    assert isinstance(part, AnnotatedImages)
    assert (part.folders, part.official, part.subset) == (("val2017",), 5000, True)
