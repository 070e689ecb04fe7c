from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tree import davis_tree, labels, save_image, save_mask
from voslab.core import ConfigError, DataError, MissingDataSetError
from voslab.data import VideoSequence
from voslab.data.sources.davis import davis


def test_names_list(tmp_path: Path) -> None:
    bear, camel = davis(davis_tree(tmp_path), 2017, "train")
    assert (bear.name, camel.name, len(bear), bear.merge) == ("bear", "camel", 5, False)
    assert [path.name for path in bear.images] == [f"{t:05}.jpg" for t in range(5)]
    np.testing.assert_array_equal(camel.labels(4), labels(4))


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_paths_list_of_the_2016_release(tmp_path: Path, mode: str) -> None:
    bear, camel = davis(davis_tree(tmp_path, year=2016, mode=mode), 2016, "train")
    assert (bear.name, camel.name, bear.merge) == ("bear", "camel", True)
    np.testing.assert_array_equal(bear.given_masks()[0], labels(0, ids=(1,)))


def test_2016_prefers_its_own_names_and_merges_2017_masks(tmp_path: Path) -> None:
    davis_tree(tmp_path)
    (tmp_path / "ImageSets/2016").mkdir()
    (tmp_path / "ImageSets/2016/train.txt").write_text("camel\n\n")
    (camel,) = davis(tmp_path, 2016, "train")
    np.testing.assert_array_equal(camel.labels(1), labels(1) > 0)


def test_test_dev_has_first_masks_only(tmp_path: Path) -> None:
    davis_tree(tmp_path)
    for t in range(1, 5):
        (tmp_path / f"Annotations/480p/bear/{t:05}.png").unlink()
    (tmp_path / "ImageSets/2017/test-dev.txt").write_text("bear\n")
    (bear,) = davis(tmp_path, 2017, "test-dev")
    assert [path is None for path in bear.masks] == [False, True, True, True, True]
    np.testing.assert_array_equal(bear.given_masks()[0], labels(0))
    assert not bear.truth
    assert davis(tmp_path, 2017, "train", only=["camel"])[0].truth
    with pytest.raises(DataError, match=r"bear/00001\.png: missing, the mask of .*00001\.jpg"):
        davis(tmp_path, 2017, "train")


def test_listing_decodes_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    davis_tree(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image, "open", refuse)
    assert len(davis(tmp_path)) == 2


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("JPEGImages/480p/bear/00002.jpg", r"JPEGImages/480p/bear/00002\.jpg: missing, the frame of .*00002\.png"),
        ("Annotations/480p/bear/00002.png", r"Annotations/480p/bear/00002\.png: missing"),
        ("Annotations/480p/bear/00000.png", r"Annotations/480p/bear/00000\.png: missing"),
    ],
)
def test_a_missing_file_is_reported(tmp_path: Path, lost: str, message: str) -> None:
    davis_tree(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(DataError, match=message):
        davis(tmp_path)


def test_missing_folders_and_lists_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder; DAVIS is expected there"):
        davis(tmp_path / "nowhere")
    davis_tree(tmp_path)
    with pytest.raises(DataError, match=r"2017/val\.txt: no such list .* ImageSets holds 2017/train\.txt"):
        davis(tmp_path, split="val")
    with pytest.raises(DataError, match=r"2016/val\.txt or .*480p/val\.txt: no such list"):
        davis(tmp_path, 2016, "val")
    with pytest.raises(DataError, match=r"JPEGImages/1080p/bear: no such folder; .*JPEGImages holds 480p"):
        davis(tmp_path, resolution="1080p")
    with pytest.raises(ConfigError, match="no DAVIS 2018"):
        davis(tmp_path, 2018)


def test_without_a_year_2017_is_read_where_its_list_exists(tmp_path: Path) -> None:
    davis_tree(tmp_path)
    (tmp_path / "ImageSets/2016").mkdir()
    for split in ("train", "val"):
        (tmp_path / f"ImageSets/2016/{split}.txt").write_text("camel\n")
    assert [(video.name, video.merge) for video in davis(tmp_path, None)] == [("bear", False), ("camel", False)]
    assert [(video.name, video.merge) for video in davis(tmp_path, None, "val")] == [("camel", True)]


def test_a_missing_data_set_is_distinguished_from_a_damaged_one(tmp_path: Path) -> None:
    davis_tree(tmp_path)
    for root, year in ((tmp_path / "nowhere", 2017), (tmp_path, 2016)):
        with pytest.raises(MissingDataSetError) as missing:
            davis(root, year)
        assert missing.value.root == root
    with pytest.raises(DataError) as damaged:
        davis(tmp_path, resolution="1080p")
    assert not isinstance(damaged.value, MissingDataSetError)


def test_picked_and_repeated_sequences(tmp_path: Path) -> None:
    davis_tree(tmp_path, names=("ant", "bee", "cow"))

    def names(**options: object) -> list[str]:
        return [sequence.name for sequence in davis(tmp_path, **options)]

    assert names(only=["cow", "ant"]) == ["ant", "cow"]
    assert names(without=["bee"]) == ["ant", "cow"]
    for option in ("only", "without"):
        with pytest.raises(ConfigError, match="DAVIS 2017 train has no video 'dog'"):
            names(**{option: ["ant", "dog"]})


@pytest.mark.parametrize(("text", "message"), [("", "is empty"), ("/ /\n", "line 1 names no sequence")])
def test_strange_lists(tmp_path: Path, text: str, message: str) -> None:
    davis_tree(tmp_path)
    (tmp_path / "ImageSets/2017/train.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        davis(tmp_path)


def test_natural_order_and_foreign_files(tmp_path: Path) -> None:
    for t in (10, 2, 1):
        save_image(tmp_path / f"JPEGImages/480p/bear/{t}.jpg", np.zeros((4, 4, 3), np.uint8))
        save_mask(tmp_path / f"Annotations/480p/bear/{t}.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "JPEGImages/480p/bear/._1.jpg").write_bytes(b"resource fork")
    (tmp_path / "Annotations/480p/bear/._1.png").write_bytes(b"resource fork")
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/train.txt").write_text("bear")
    (bear,) = davis(tmp_path)
    assert [path.stem for path in bear.images] == ["1", "2", "10"]


@pytest.fixture(scope="module")
def real(vos_data: Path) -> dict[str, tuple[VideoSequence, ...]]:
    return {split: davis(vos_data / "DAVIS", 2016, split) for split in ("train", "val")}


def test_all_of_davis_2016(real: dict[str, tuple[VideoSequence, ...]], vos_data: Path, tmp_path: Path) -> None:
    assert [len(real[split]) for split in real] == [30, 20]
    assert sum(len(sequence) for split in real.values() for sequence in split) == 3455
    # The list of paths names the same sequences.
    for part in ("JPEGImages", "Annotations", "ImageSets/480p"):
        (tmp_path / part).parent.mkdir(exist_ok=True)
        (tmp_path / part).symlink_to((vos_data / "DAVIS" / part).resolve())
    assert [s.name for s in davis(tmp_path, 2016, "val")] == [s.name for s in real["val"]]


def test_the_odd_masks_of_davis_2016(real: dict[str, tuple[VideoSequence, ...]]) -> None:
    train = {sequence.name: sequence for sequence in real["train"]}
    with Image.open(train["bear"].masks[77] or "") as mask:
        assert mask.mode == "LA"
    for index in (0, 77):
        read = train["bear"].labels(index)
        assert read is not None
        assert np.unique(read).tolist() == [0, 1]
    areas = [int((train["bmx-bumps"].labels(index) == 1).sum()) for index in range(len(train["bmx-bumps"]))]
    assert 0 in areas
    assert areas[0] > 0
